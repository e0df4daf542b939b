package image

import "io"

// Progress says how far one layer is.
type Progress struct {
	From    string // where the image comes from: "registry ghcr.io", "docker", …
	Layer   string // its diff id
	Index   int    // 1 for the lowermost of
	Layers  int    // this many
	Bytes   int64  // of its archive read so far
	Size    int64  // of its archive, in bytes; 0 where that is not known
	Done    bool   // it is unpacked
	Present bool   // it was there already
}

// tellEvery is how many bytes are read between two reports.
const tellEvery = 1 << 20

// told reads, and tells how far it is.
type told struct {
	r           io.Reader
	size        int64
	read, since int64
	tell        func(Progress)
}

func (t *told) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.read += int64(n)
	t.since += int64(n)
	if t.since >= tellEvery {
		t.since = 0
		t.tell(Progress{Bytes: t.read, Size: t.size})
	}
	return n, err
}
