package faults

import "strings"

// hostLookups is why a process without a network of its own keeps its lookups.
const hostLookups = "the network of NAME is the host's own, and so are its lookups: give it a network namespace of its own: protected"

func dnsCases() []faultCase {
	var all []faultCase
	for _, how := range [][2]string{{"drop", "no answer"}, {"nxdomain", "no such name"}, {"address, addresses: [192.0.2.1]", "another address"}} {
		form, _, _ := strings.Cut(how[0], ",")
		all = append(all, faultCase{
			Name: "dns", Net: true, Form: form, Section: "{type: dns, how: " + how[0] + "}",
			Feel: lookups, Well: "as ever", Ill: how[1], Refused: always(hostLookups, service, process),
		})
	}
	return all
}

// lookups asks for a name: that of its peer where there is a resolver. Where
// there is none it asks its peer, which says at once that it is none either.
func lookups(s *subject) string {
	said := s.answer("lookup", "$PEER:53", "peer")
	if far := s.words["$FAR"]; far != "" {
		said = s.answer("resolve", far)
	}
	switch {
	case strings.HasSuffix(said, "192.0.2.1"):
		return "another address"
	case strings.HasSuffix(said, s.words["$PEER"]), strings.Contains(said, "connection refused"):
		return "as ever"
	case strings.Contains(said, "no such host"):
		return "no such name"
	case strings.Contains(said, "timeout"), strings.Contains(said, "deadline"):
		return "no answer"
	}
	return said
}
