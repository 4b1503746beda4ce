package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// A when is a point in time of the command line; zero if it was not given.
type when struct{ time.Time }

// whenLayouts are the ways to write a time that has no zone: it is local.
var whenLayouts = []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05"}

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// UnmarshalText reads how long ago it was, a date, or a time.
func (w *when) UnmarshalText(text []byte) error {
	s := string(text)
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		w.Time = time.Now().AddDate(0, 0, -n)
		return nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		w.Time = time.Now().Add(-ago)
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		w.Time = t
		return nil
	}
	for _, layout := range whenLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			w.Time = t
			return nil
		}
	}
	return fmt.Errorf("read time %q: it is neither how long ago (90m, 36h, 7d), nor a date (2026-11-23), nor a time (2026-11-23T14:00:00Z)", s)
}

// A pathValue is a path value of the command line. An empty name stands for any.
type pathValue audit.Field

var pathName = regexp.MustCompile(`^[A-Za-z0-9_.]*$`)

// UnmarshalText reads NAME=VALUE, =VALUE or VALUE.
func (p *pathValue) UnmarshalText(text []byte) error {
	name, value, named := strings.Cut(string(text), "=")
	if !named {
		name, value = "", name
	}
	switch {
	case !pathName.MatchString(name):
		return fmt.Errorf("read path value %q: %q is no field's name; write =VALUE for a value that has a \"=\"", text, name)
	case name == "" && value == "":
		return fmt.Errorf("read path value %q: it is empty; write NAME=VALUE, or VALUE for one under any name", text)
	}
	*p = pathValue{Name: name, Value: value}
	return nil
}
