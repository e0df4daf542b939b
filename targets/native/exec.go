package native

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/simianhq/simian/internal/box"
)

// writeExec writes down how a further process is run in the container, for
// other processes. It holds the environment: root alone may read it.
func (c *container) writeExec() error {
	data, err := json.Marshal(c.execSpec(nil))
	if err != nil {
		return err
	}
	return os.WriteFile(c.dir("exec.json"), data, 0o600)
}

// ExecSpec returns how args are run in a container of the lab in the folder
// dir.
func ExecSpec(dir, container string, args []string) (*box.ExecSpec, error) {
	data, err := os.ReadFile(filepath.Join(dir, "box", container, "exec.json"))
	if err != nil {
		return nil, fmt.Errorf("read how to run something in %s: %w", container, err)
	}
	spec := &box.ExecSpec{}
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, fmt.Errorf("read how to run something in %s: %w", container, err)
	}
	spec.Args = args
	return spec, nil
}
