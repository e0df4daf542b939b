package op

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/simianhq/simian/internal/vdso"
)

// pageSize is that of x86-64.
const pageSize = 4096

// roomWanted is how many bytes our code in a vDSO takes, and some.
const roomWanted = 512

// parseVDSO finds in a vDSO, which is an ELF file in memory, the functions that
// tell the time of day, and where it ends.
func parseVDSO(read func(at, n int) ([]byte, error)) (vdso.Image, error) {
	header, err := read(0, 64)
	if err != nil {
		return vdso.Image{}, err
	}
	if header[elf.EI_CLASS] != byte(elf.ELFCLASS64) {
		return vdso.Image{}, errors.New("a program of 32 bits has another vDSO")
	}
	code, end, err := readVDSO(header, read)
	if err != nil {
		return vdso.Image{}, err
	}
	f, err := elf.NewFile(bytes.NewReader(code))
	if err != nil {
		return vdso.Image{}, fmt.Errorf("read the vDSO's header: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return vdso.Image{}, vdso.ErrProcessor
	}
	for _, p := range f.Progs {
		end = max(end, int(p.Off+p.Filesz))
	}
	image := vdso.Image{Room: (end + 15) &^ 15, Size: len(code)}
	if image.Size-image.Room < roomWanted {
		return vdso.Image{}, fmt.Errorf("behind its vDSO are %d bytes of room, %d are needed", image.Size-image.Room, roomWanted)
	}
	if len(bytes.Trim(code[image.Room:], "\x00")) > 0 {
		return vdso.Image{}, vdso.ErrOther
	}
	image.Sites, err = vdsoSites(f, code)
	return image, err
}

// readVDSO reads all of it, to the end of its last page: its last part is the
// table of sections.
func readVDSO(header []byte, read func(at, n int) ([]byte, error)) (code []byte, end int, err error) {
	var h elf.Header64
	if err := decodeELF(header, &h); err != nil {
		return nil, 0, err
	}
	end = int(h.Shoff) + int(h.Shnum)*int(h.Shentsize)
	if end < 64 || end > 16*pageSize {
		return nil, 0, fmt.Errorf("its vDSO's table of sections ends at %d", end)
	}
	code, err = read(0, (end+pageSize-1)&^(pageSize-1))
	return code, end, err
}

// vdsoSites finds the functions. The order is the one that their code needs.
func vdsoSites(f *elf.File, code []byte) ([]vdso.Site, error) {
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("read the vDSO's symbols: %w", err)
	}
	var sites []vdso.Site
	for _, name := range []string{"clock_gettime", "gettimeofday", "time"} {
		i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "__vdso_"+name })
		if i < 0 {
			return nil, fmt.Errorf("its vDSO has no %s", name)
		}
		site, err := vdsoSite(name, symbols[i], code)
		if err != nil {
			return nil, err
		}
		sites = append(sites, site)
	}
	return sites, nil
}

func vdsoSite(name string, s elf.Symbol, code []byte) (vdso.Site, error) {
	at, end := int(s.Value), int(s.Value+s.Size)
	if at < 64 || end > len(code) || end-at < 8 || at%8 > 3 { // a write that is cut short must leave all of a jump, or none
		return vdso.Site{}, fmt.Errorf("its vDSO's %s is at %#x to %#x", name, at, end)
	}
	if vdso.Returns(code[at:end]) {
		return vdso.Site{}, fmt.Errorf("its vDSO's %s jumps back to its beginning", name)
	}
	if name == "time" { // none of its instructions are moved: nothing goes on in it
		return vdso.Site{Name: name, At: at, Was: code[at : at+8]}, nil
	}
	was, err := vdso.Begin(code[at:end])
	if err != nil {
		return vdso.Site{}, fmt.Errorf("its vDSO's %s: %w", name, err)
	}
	return vdso.Site{Name: name, At: at, Was: was}, nil
}

func decodeELF(b []byte, h *elf.Header64) error {
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return errors.New("its vDSO is no ELF file")
	}
	return binary.Read(bytes.NewReader(b), binary.LittleEndian, h)
}
