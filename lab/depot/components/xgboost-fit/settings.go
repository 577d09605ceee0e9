package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

const (
	// The error after one round can't be lower than itself.
	fewestRounds = 2
	// Of one fit, where the clock says when it is enough.
	mostRounds = 1000
)

// Settings is what the command line says.
type Settings struct {
	Seconds      float64
	Rounds       int
	Rows         int
	Columns      int
	Seed         uint64
	WithoutBoard bool
	Library      string
}

func parseSettings(arguments []string, usage io.Writer) (Settings, error) {
	s := Settings{}
	flags := flag.NewFlagSet("xgboost-fit", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.Float64Var(&s.Seconds, "seconds", 10, "fit, again and again, until so many `seconds` have passed; two rounds at least")
	flags.IntVar(&s.Rounds, "rounds", 0, "one fit of so many `rounds` instead, at least 2")
	flags.IntVar(&s.Rows, "rows", 2000, "of the data set")
	flags.IntVar(&s.Columns, "columns", 20, "of the data set")
	flags.Uint64Var(&s.Seed, "seed", 1, "of the data set: the same gives the same")
	flags.BoolVar(&s.WithoutBoard, "without-board", false, "run although the environment names no board")
	flags.StringVar(&s.Library, "library", inImage, "`path` of libxgboost.so")
	if err := flags.Parse(arguments); err != nil {
		return s, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("found %q; expected flags only", flags.Args())
	case given["seconds"] && given["rounds"]:
		return s, errors.New("found --seconds and --rounds; expected one of them")
	case given["rounds"] && s.Rounds < fewestRounds:
		return s, fmt.Errorf("--rounds: found %d; expected at least %d, since the last round is compared with the first", s.Rounds, fewestRounds)
	case !(s.Seconds >= 0):
		return s, fmt.Errorf("--seconds: found %v; expected 0 or more", s.Seconds)
	case s.Rows < fewestRows:
		return s, fmt.Errorf("--rows: found %d; expected at least %d", s.Rows, fewestRows)
	case s.Columns < fewestColumns:
		return s, fmt.Errorf("--columns: found %d; expected at least %d", s.Columns, fewestColumns)
	}
	return s, nil
}

// enough was done by all fits together.
func (s Settings) enough(rounds int, took time.Duration) bool {
	if s.Rounds > 0 {
		return rounds >= s.Rounds
	}
	return took.Seconds() >= s.Seconds
}

func (s Settings) endsFit(rounds int, took time.Duration) bool {
	if s.Rounds > 0 {
		return rounds >= s.Rounds
	}
	return rounds >= mostRounds || rounds >= fewestRounds && s.enough(rounds, took)
}
