package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is how far back zstd may refer, in bytes: that of zstd --long, 128 MiB.
// An archive that asks for more is refused, since the reader must hold it.
const maxWindow = 128 << 20

// decompress undoes gzip and zstd, told by their first bytes: what an archive
// says about its own compression is wrong often enough.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, _ := b.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("BZh")), bytes.Equal(magic, []byte{0xfd, '7', 'z', 'X'}):
		return nil, fmt.Errorf("it is compressed with bzip2 or xz; gzip, zstd or none can be read")
	}
	return plainReader{b}, nil
}

// plainReader reads what was not compressed.
type plainReader struct{ io.Reader }

func (plainReader) Close() error { return nil }

// bounded reads no more than left bytes, then gives an error: an archive's
// end may be far behind its last entry.
type bounded struct {
	r    io.Reader
	left int64
	max  int64
}

func newBounded(r io.Reader, limit int64) *bounded { return &bounded{r, limit, limit} }

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if n, err := b.r.Read(make([]byte, 1)); n == 0 && err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("it has more than %d bytes when uncompressed", b.max)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// cancelled reads until its context is done.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
