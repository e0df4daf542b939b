package native

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// How much of a container's output is kept.
const (
	logMegabytes = 10 // of one file
	logFiles     = 3  // older ones besides
	longestLine  = 16 << 10
)

// LogLine is one line that a container wrote; a log is a file of them, each a
// JSON object (as Docker's json-file driver writes it).
type LogLine struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // stdout or stderr
	Text   string    `json:"log"`    // without the newline
}

// LogFile returns where the log of a container is, below Simian's state
// directory. Older parts stand beside it.
func LogFile(state string, run, container string) string {
	return filepath.Join(state, "logs", run, container+".log")
}

// logFile collects what a container writes, over all its restarts.
type logFile struct {
	mu   sync.Mutex
	out  *lumberjack.Logger
	last []string // the last few lines
}

func newLogFile(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // there is a log of what has written nothing, too
		return nil, err
	}
	return &logFile{out: &lumberjack.Logger{Filename: path, MaxSize: logMegabytes, MaxBackups: logFiles}}, nil
}

// pipes are what a container writes to.
type pipes struct {
	stdout, stderr *os.File
	drained        chan struct{} // closed once all that was written is in the log
}

// Close closes this process's ends, once the container has its own.
func (p *pipes) Close() {
	p.stdout.Close()
	p.stderr.Close()
}

// open makes the pipes for one start.
func (l *logFile) open() (*pipes, error) {
	var copies sync.WaitGroup
	out, err := l.pipe(&copies, "stdout")
	if err != nil {
		return nil, err
	}
	errs, err := l.pipe(&copies, "stderr")
	if err != nil {
		out.Close()
		return nil, err
	}
	drained := make(chan struct{})
	go func() {
		copies.Wait()
		close(drained)
	}()
	return &pipes{out, errs, drained}, nil
}

func (l *logFile) pipe(copies *sync.WaitGroup, stream string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the log: %w", err)
	}
	copies.Go(func() {
		defer r.Close()
		l.copy(stream, r)
	})
	return w, nil
}

// copy writes line after line until the other end is closed. A line that is
// too long is cut into several.
func (l *logFile) copy(stream string, r io.Reader) {
	in := bufio.NewReaderSize(r, longestLine)
	for cut := false; ; {
		line, err := in.ReadSlice('\n')
		if text := strings.TrimSuffix(string(line), "\n"); text != "" || len(line) > 0 && !cut { // no empty line for a newline that the cut has left over
			l.write(stream, text)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
		cut = err != nil
	}
}

func (l *logFile) write(stream, text string) {
	line, err := json.Marshal(LogLine{time.Now(), stream, text})
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last = append(l.last, text); len(l.last) > 10 {
		l.last = l.last[1:]
	}
	_, _ = l.out.Write(append(line, '\n')) // a full disk must not hold up the container
}

// tail returns the last lines, n at the most.
func (l *logFile) tail(n int) []string {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.last[max(0, len(l.last)-n):]...)
}

// Close closes the file. What is still written opens it again.
func (l *logFile) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Close()
}

// ReadLog calls fn for each line of the log at path, the oldest part first.
func ReadLog(path string, fn func(LogLine) error) error {
	parts, err := filepath.Glob(strings.TrimSuffix(path, ".log") + "-*.log")
	if err != nil {
		return err
	}
	for _, part := range append(parts, path) { // their names hold the time: they sort by it
		if err := readPart(part, fn); err != nil {
			return err
		}
	}
	return nil
}

func readPart(path string, fn func(LogLine) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	for {
		var line LogLine
		switch err := dec.Decode(&line); {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return fmt.Errorf("read log %s: %w", path, err)
		}
		if err := fn(line); err != nil {
			return err
		}
	}
}

// Logs returns the logs in a folder, by container.
func Logs(dir string) (map[string]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("find logs: %w", err)
	}
	logs := map[string]string{}
	for _, f := range files {
		name, isLog := strings.CutSuffix(f.Name(), ".log")
		if isLog && !older.MatchString(name) {
			logs[name] = filepath.Join(dir, f.Name())
		}
	}
	return logs, nil
}

// older matches the name of an older part of a log, which holds its time.
var older = regexp.MustCompile(`-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}$`)

// ServiceOf returns the service that a container is a replica of.
func ServiceOf(container string) string {
	if i := strings.LastIndexByte(container, '-'); i > 0 {
		return container[:i]
	}
	return container
}
