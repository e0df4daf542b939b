package faults

import "strings"

func httpCases() []faultCase {
	const none = "the network of NAME is the host's own, and so are its ports: give it a network namespace of its own: protected"
	var all []faultCase
	for _, how := range [][3]string{{"status", "status: 503", "503"}, {"abort", "abort: true", "reset"}, {"delay", "delay: 300ms", "late"}} {
		all = append(all, faultCase{
			Name: "http", Net: true, Form: how[0], Section: "{type: http, port: $WEB, " + how[1] + "}",
			Feel: visited, Well: "well", Ill: how[2], Refused: always(none, service, process),
		})
	}
	return all
}

// visited has the peer ask the subject for a page.
func visited(s *subject) string {
	said := s.peerAnswers("get", "GET", "http://$SELF:$WEB/page")
	words := strings.Fields(said)
	switch {
	case strings.Contains(said, "reset"):
		return "reset"
	case len(words) < 2 || words[0] == "error:":
		return said
	case words[0] != "200":
		return words[0]
	case number(words[1]) > 0.25:
		return "late"
	}
	return "well"
}
