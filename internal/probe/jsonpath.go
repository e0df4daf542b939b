package probe

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ohler55/ojg/jp"

	"github.com/simianhq/simian/experiment"
)

// parsePath reads a JSONPath; that of an empty text is nil.
func parsePath(text string) (jp.Expr, error) {
	if text == "" {
		return nil, nil
	}
	path, err := jp.ParseString(text)
	if err != nil {
		return nil, experiment.Fieldf("json", "%q is not a JSONPath such as $.perMinute (%v)", text, err)
	}
	return path, nil
}

// numberAt returns the one number that path matches in body, a JSON text. True
// counts as 1 and false as 0; text is no number, whatever it spells.
func numberAt(path jp.Expr, body []byte) (float64, error) {
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		return 0, errors.New("the answer is not JSON: " + shorten(err.Error()))
	}
	found := path.Get(doc)
	if len(found) != 1 {
		return 0, fmt.Errorf("%s matches %s in the answer: one value is needed", path, count(len(found)))
	}
	switch v := found[0].(type) {
	case float64:
		return v, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case string:
		return 0, fmt.Errorf("%s is the text %q, not a number", path, shorten(v))
	}
	return 0, fmt.Errorf("%s is %s, not a number", path, kind(found[0]))
}

func count(n int) string {
	if n == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d values", n)
}

func kind(v any) string {
	switch v.(type) {
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "null"
}
