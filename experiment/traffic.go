package experiment

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

var (
	methodForm = regexp.MustCompile(`^[A-Za-z-]*$`)
	headerForm = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$") // a token of RFC 9110
)

// Validate implements Validator.
func (t Traffic) Validate() error {
	if err := checkName(t.Name); err != nil {
		return err
	}
	if t.Rate == 0 {
		return errors.New("a rate is missing, such as rate: 50/s")
	}
	if !methodForm.MatchString(t.Method) {
		return Fieldf("method", "%s is not a method of HTTP", quote(t.Method))
	}
	for _, k := range keys(t.Headers) {
		if !headerForm.MatchString(k) || strings.ContainsAny(t.Headers[k], "\r\n\x00") {
			return Fieldf("headers", "%s cannot be sent as a header", quote(k))
		}
	}
	return CheckURL("url", t.URL)
}

// CheckURL refuses what is not an absolute http or https URL. What could be a
// secret in it is not repeated.
func CheckURL(field, raw string) error {
	if raw == "" {
		return errors.New("a " + field + " is missing")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Fieldf(field, "%s is not a URL", quote(redact(raw)))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return Fieldf(field, "%s is not an http or https URL with a host", quote(redact(raw)))
	}
	return nil
}

// redact leaves out a URL's user, password and query.
func redact(raw string) string {
	if i := strings.LastIndex(raw, "@"); i >= 0 { // before the query: a password may hold a ?
		scheme, _, ok := strings.Cut(raw[:i], "//")
		if ok {
			raw = scheme + "//…" + raw[i:]
		} else {
			raw = "…" + raw[i:]
		}
	}
	if plain, _, ok := strings.Cut(raw, "?"); ok {
		raw = plain + "?…"
	}
	return raw
}
