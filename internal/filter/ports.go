package filter

// Protocols is a protocol's name in a file, or a list of them.
type Protocols []string

// Ports is a port or a range in a file, or a list of them.
type Ports []PortRange
