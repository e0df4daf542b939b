package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"unicode"

	"github.com/simianhq/simian/experiment"
)

// maxWords is the longest piece of a system's own words in an error, in runes.
const maxWords = 200

// plain says in a few words why nothing could be measured within timeout. An
// end of ctx itself stays as it is.
func plain(ctx context.Context, err error, timeout experiment.Duration) error {
	var (
		slow  net.Error
		name  *net.DNSError
		errno syscall.Errno
		outer *url.Error
	)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &slow) && slow.Timeout():
		return errors.New("no answer within " + timeout.String())
	case errors.As(err, &name) && name.IsNotFound:
		return errors.New("no such host")
	case errors.As(err, &errno):
		return errors.New(errno.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed before the answer was complete")
	case errors.As(err, &outer): // its own words begin with the URL
		err = outer.Err
	}
	return errors.New(shorten(err.Error()))
}

// shorten makes one line that is fit for a terminal and a report.
func shorten(words string) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return ' '
	}, strings.TrimSpace(words))
	if runes := []rune(words); len(runes) > maxWords {
		return string(runes[:maxWords]) + "…"
	}
	return words
}
