package vdso

import (
	"errors"
	"fmt"
	"syscall"
)

// Install has the process read the time of day with an offset. Where it does so
// under this ID already, nothing is changed. The error is ErrInside where a
// thread stands, or will stand when a signal's handler returns, in the middle
// of what becomes a jump: a moment later it won't.
func (s *Still) Install(image Image, shift Shift) error {
	now, err := s.Look(image)
	if err != nil {
		return err
	}
	switch {
	case now.In(shift.ID, image):
		return nil
	case now.Foreign > 0, now.Owner != 0 && now.Owner != shift.ID, now.Owner == 0 && now.Entered > 0:
		return ErrOther
	}
	if err := s.checkRoom(image, now, shift); err != nil {
		return err
	}
	for _, site := range image.Sites {
		if s.stands(image, site.At+1, site.At+jump) {
			return ErrInside
		}
	}
	c := assemble(image, shift)
	if now.Entered == 0 { // else it is complete, and may be running
		if err := s.write(image.Room, c.room); err != nil {
			return err
		}
	}
	for i, site := range image.Sites {
		if err := s.write(site.At, c.entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkRoom makes sure that our code goes where nothing is.
func (s *Still) checkRoom(image Image, now State, shift Shift) error {
	room, err := s.At(image.Room, image.Size-image.Room)
	if err != nil || now.Owner == shift.ID {
		return err
	}
	for _, b := range room {
		if b != 0 {
			return ErrOther
		}
	}
	return nil
}

// Remove takes back what Install has done under this ID, as far as it was done.
// The error is ErrInside where a thread is in our code, which it leaves soon and
// can't enter again; ErrOther where somebody has changed a function since, in
// which case our code stays.
func (s *Still) Remove(image Image, id uint64) error {
	now, err := s.Look(image)
	if err != nil || now.Owner != id {
		return err
	}
	c := assemble(image, Shift{ID: id})
	for i, site := range image.Sites {
		there, err := s.At(site.At, len(site.Was))
		if err == nil && string(there) == string(c.entries[i]) {
			err = s.write(site.At, site.Was)
		}
		if err != nil {
			return err
		}
	}
	if now.Foreign > 0 {
		return ErrOther
	}
	if s.stands(image, image.Room, image.Room+len(c.room)) {
		return ErrInside
	}
	if err := s.write(image.Room+8, make([]byte, len(c.room)-8)); err != nil {
		return err
	}
	return s.write(image.Room, make([]byte, 8))
}

// write writes into the vDSO, from the lowest address on.
func (s *Still) write(at int, b []byte) error {
	if _, err := syscall.PtracePokeData(s.leader(), uintptr(s.Base)+uintptr(at), b); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			err = ErrGone // it was killed
		}
		return fmt.Errorf("write into the vDSO of pid %d: %w", s.PID, err)
	}
	return nil
}
