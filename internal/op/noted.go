package op

// Notes implements experiment.Noted.
func (t *Table) Notes() []string { return t.Match.Notes }

// Notes implements experiment.Noted.
func (q *Queue) Notes() []string { return q.Match.Notes }

// Notes implements experiment.Noted.
func (q *Qdisc) Notes() []string { return q.Noted }

// Notes implements experiment.Noted.
func (f *Fill) Notes() []string { return f.Noted }
