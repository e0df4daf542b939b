package experiment

// ToJSON gives what Load would decode, parameters left as they are.
func ToJSON(data []byte) ([]byte, error) {
	d, err := parseYAML(data)
	if err != nil {
		return nil, err
	}
	return d.json()
}
