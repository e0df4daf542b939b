package dnsrelay

import (
	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ttl is how long a wrong address may be kept, in seconds: it should be
	// gone soon after the fault. 0 is not understood by all.
	ttl = 1
	// bufferSize is what the relay takes by UDP where it is asked so: what
	// fits into an unfragmented packet anywhere (dnsflagday.net/2020).
	bufferSize = 1232
)

// question is what a lookup asks for.
type question struct {
	header dnsmessage.Header
	asked  dnsmessage.Question
	name   string // as Plain gives it
	kind   dnsmessage.Type
	edns   bool // it says what it can take (RFC 6891)
	dnssec bool // it wants signatures
	own    bool // Simian asks, to see what is answered: see Ask
}

// parse reads a lookup. False is for all that is none of today's: an answer,
// several questions, another class, what cannot be read. None of that is the
// relay's business.
func parse(packet []byte) (*question, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || h.Response || h.OpCode != 0 {
		return nil, false
	}
	asked, err := p.AllQuestions()
	if err != nil || len(asked) != 1 || asked[0].Class != dnsmessage.ClassINET {
		return nil, false
	}
	q := &question{header: h, asked: asked[0], kind: asked[0].Type, name: Plain(asked[0].Name.String())}
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return nil, false
	}
	for {
		extra, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return q, true
		}
		if err != nil {
			return nil, false
		}
		if extra.Type != dnsmessage.TypeOPT {
			err = p.SkipAdditional()
		} else {
			err = q.extend(&p, extra)
		}
		if err != nil {
			return nil, false
		}
	}
}

// extend reads what a lookup says in EDNS.
func (q *question) extend(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) error {
	options, err := p.OPTResource()
	q.edns, q.dnssec = true, h.DNSSECAllowed()
	for _, o := range options.Options {
		q.own = q.own || o.Code == ownOption.Code && string(o.Data) == string(ownOption.Data)
	}
	return err
}

// answer makes the reply that r gives to q.
func (r *Rule) answer(q *question) ([]byte, error) {
	switch r.How {
	case Refuse:
		return q.reply(dnsmessage.RCodeRefused)
	case NXDomain:
		return q.reply(dnsmessage.RCodeNameError)
	case Address:
		return q.reply(dnsmessage.RCodeSuccess, r.resources(q)...)
	}
	return q.reply(dnsmessage.RCodeServerFailure)
}

// resources are the wrong addresses.
func (r *Rule) resources(q *question) (list []dnsmessage.Resource) {
	add := func(kind dnsmessage.Type, body dnsmessage.ResourceBody) {
		if q.kind == kind || q.kind == dnsmessage.TypeALL {
			h := dnsmessage.ResourceHeader{Name: q.asked.Name, Type: kind, Class: dnsmessage.ClassINET, TTL: ttl}
			list = append(list, dnsmessage.Resource{Header: h, Body: body})
		}
	}
	if r.Four.Is4() {
		add(dnsmessage.TypeA, &dnsmessage.AResource{A: r.Four.As4()})
	}
	if r.Six.Is6() {
		add(dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: r.Six.As16()})
	}
	return list
}

// reply is an answer to q as a resolver gives it: with the question, in the
// letters in which it was asked.
func (q *question) reply(code dnsmessage.RCode, answers ...dnsmessage.Resource) ([]byte, error) {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, RecursionDesired: q.header.RecursionDesired,
			RecursionAvailable: true, CheckingDisabled: q.header.CheckingDisabled, RCode: code,
		},
		Questions: []dnsmessage.Question{q.asked},
		Answers:   answers,
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(bufferSize, dnsmessage.RCodeSuccess, q.dnssec); err != nil {
			return nil, err
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	return m.Pack()
}

// settles tells whether a packet from a server is what a lookup waits for: no
// other is to come.
func settles(lookup, packet []byte) bool {
	const response = 0x80 // of the header's third byte
	if len(lookup) < 3 || len(packet) < 3 {
		return true
	}
	return lookup[0] == packet[0] && lookup[1] == packet[1] && packet[2]&response != 0
}
