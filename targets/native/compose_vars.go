package native

import (
	"fmt"
	"regexp"
	"strings"
)

// Bounds of what variables may grow to.
const (
	maxVarDepth = 16      // of ${A:-${B:-…}}
	maxVarBytes = 1 << 20 // of one value with its variables
)

// variables fills in ${NAME} as Compose does, but for one thing: a variable that
// is not set is an error, where Docker Compose warns and goes on without it
// (https://docs.docker.com/reference/compose-file/interpolation/).
type variables map[string]string

var (
	varName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*`)
	varOp   = regexp.MustCompile(`^:?[-?+]`)
)

// expand returns text with its variables filled in.
func (v variables) expand(text string) (string, error) {
	return v.expandWithin(text, maxVarDepth)
}

func (v variables) expandWithin(text string, depth int) (string, error) {
	if depth == 0 {
		return "", fmt.Errorf("variables stand inside variables more than %d deep", maxVarDepth)
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		value, rest, err := v.one(after, depth)
		if err != nil {
			return "", err
		}
		if b.WriteString(value); b.Len() > maxVarBytes {
			return "", fmt.Errorf("is larger than %d KiB with its variables", maxVarBytes>>10)
		}
		text = rest
	}
}

// one fills in the variable at the beginning of text, which has lost its $.
func (v variables) one(text string, depth int) (value, rest string, err error) {
	if rest, ok := strings.CutPrefix(text, "$"); ok {
		return "$", rest, nil
	}
	if name := varName.FindString(text); name != "" {
		value, err = v.plain(name)
		return value, text[len(name):], err
	}
	body, rest, ok := braced(text)
	name := varName.FindString(body)
	op := varOp.FindString(body[len(name):])
	if !ok || name == "" || op == "" && body != name {
		return "", "", fmt.Errorf("%s is no variable: write $$ for a plain $", shown("$"+text))
	}
	if op == "" {
		value, err = v.plain(name)
	} else {
		value, err = v.with(name, op, body[len(name+op):], depth)
	}
	return value, rest, err
}

// braced cuts text behind the brace that closes the one it begins with.
func braced(text string) (body, rest string, ok bool) {
	open := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			open++
		case '}':
			open--
		}
		if open == 0 {
			return text[min(1, i):i], text[i+1:], i > 0
		}
	}
	return "", "", false
}

func (v variables) plain(name string) (string, error) {
	value, set := v[name]
	if !set {
		return "", fmt.Errorf("the variable %s is not set: set it, or give a default, ${%s:-…}", name, name)
	}
	return value, nil
}

// with applies one of the operators :- - :? ? :+ + to a variable.
func (v variables) with(name, op, word string, depth int) (string, error) {
	value, set := v[name]
	if strings.HasPrefix(op, ":") {
		set = value != ""
	}
	kind := op[len(op)-1]
	switch {
	case set && kind != '+':
		return value, nil
	case !set && kind == '+':
		return "", nil
	}
	word, err := v.expandWithin(word, depth-1)
	switch {
	case err != nil || kind != '?':
		return word, err
	case word == "":
		return "", fmt.Errorf("the variable %s must be set", name)
	}
	return "", fmt.Errorf("the variable %s must be set: %s", name, word)
}

// shown is text for a message: cut short and in quotes.
func shown(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
