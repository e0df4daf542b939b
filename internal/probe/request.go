package probe

import (
	"net/http"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// userAgent is sent unless a file gives a header of that name.
const userAgent = "simian"

// newRequest makes the request that all of a probe's or a traffic's are copies
// of, without its body. Errors are FieldErrors.
func newRequest(method, url string, headers map[string]string) (*http.Request, error) {
	if err := experiment.CheckURL("url", url); err != nil {
		return nil, err
	}
	if !isToken(method) && method != "" {
		return nil, experiment.Fieldf("method", "%q is not an HTTP method", method)
	}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return nil, experiment.Fieldf("url", "is not a URL that can be asked for")
	}
	req.Header.Set("User-Agent", userAgent)
	for name, value := range headers {
		if !isToken(name) {
			return nil, experiment.Fieldf("headers", "%q is not the name of a header", name)
		}
		if strings.ContainsFunc(value, isControl) { // the value may be a secret
			return nil, experiment.Fieldf("headers", "the value of %s has a control character in it", name)
		}
		req.Header.Set(name, value)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}

// isToken tells whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	other := func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	return s != "" && !strings.ContainsFunc(s, other)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
