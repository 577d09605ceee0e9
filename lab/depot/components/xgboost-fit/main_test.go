package main

import (
	"errors"
	"flag"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func parsed(t *testing.T, arguments ...string) Settings {
	t.Helper()
	settings, err := parseSettings(arguments, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func TestWithoutFlagsItFitsForTenSecondsAndWantsABoard(t *testing.T) {
	want := Settings{Seconds: 10, Rows: 2000, Columns: 20, Seed: 1, Library: inImage}
	if found := parsed(t); found != want {
		t.Errorf("found %+v; expected %+v", found, want)
	}
}

func TestWrongArgumentsAreRefusedByName(t *testing.T) {
	for line, message := range map[string]string{
		"10":                        `"10"`,
		"--seconds 1 --rounds 2":    "one of them",
		"--rounds 1":                "--rounds: found 1",
		"--rounds 0":                "--rounds: found 0",
		"--seconds -1":              "--seconds: found -1",
		"--seconds NaN":             "--seconds: found NaN",
		"--seconds soon":            "soon",
		"--rows 99":                 "--rows: found 99",
		"--columns 2":               "--columns: found 2",
		"--tree-method hist":        "tree-method",
		"--without-board --rows -1": "--rows: found -1",
	} {
		if _, err := parseSettings(strings.Fields(line), io.Discard); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: found error %v; expected one with %q", line, err, message)
		}
	}
}

func TestHelpIsNoMistake(t *testing.T) {
	var usage strings.Builder
	if _, err := parseSettings([]string{"--help"}, &usage); !errors.Is(err, flag.ErrHelp) || !strings.Contains(usage.String(), "-without-board") {
		t.Errorf("found %v and %q", err, usage.String())
	}
}

func TestAFitEndsByTheClockOrByItsRounds(t *testing.T) {
	for _, c := range []struct {
		line   string
		rounds int
		took   time.Duration
		ends   bool
	}{
		{"--seconds 0", 1, time.Hour, false},
		{"--seconds 0", 2, 0, true},
		{"--seconds 5", 999, 4 * time.Second, false},
		{"--seconds 5", 2, 5 * time.Second, true},
		{"--seconds 5", 1000, time.Second, true},
		{"--rounds 3000", 2999, time.Hour, false},
		{"--rounds 3000", 3000, 0, true},
	} {
		if found := parsed(t, strings.Fields(c.line)...).endsFit(c.rounds, c.took); found != c.ends {
			t.Errorf("%s after %d rounds and %v: found %v; expected %v", c.line, c.rounds, c.took, found, c.ends)
		}
	}
}

func TestTheBoardsAreThoseOfTheDevicePlugin(t *testing.T) {
	boards, err := readBoards([]string{
		"PATH=/bin",
		"PCIDEVICE_INACCEL_COM_XGBOOST_EXACT=0000:3b:00.1,0000:5e:00.1",
		"FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT=0000:3b:00.1/0,0000:5e:00.1/0",
		"FPGA_OPERATOR_SERVICE_HOST=10.96.0.7", // of a Service of this name
		"PCIDEVICE_XILINX_AWS_VU47P_F2=0000:00:1d.0",
		"FPGA_SLOTS_XILINX_AWS_VU47P_F2=0",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Boards{
		Resources: []string{"INACCEL_COM_XGBOOST_EXACT", "XILINX_AWS_VU47P_F2"},
		Variables: []string{
			"FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT=0000:3b:00.1/0,0000:5e:00.1/0",
			"FPGA_SLOTS_XILINX_AWS_VU47P_F2=0",
			"PCIDEVICE_INACCEL_COM_XGBOOST_EXACT=0000:3b:00.1,0000:5e:00.1",
			"PCIDEVICE_XILINX_AWS_VU47P_F2=0000:00:1d.0",
		},
	}
	if !reflect.DeepEqual(boards, want) {
		t.Errorf("found %+v; expected %+v", boards, want)
	}
	if found := boards.accelerators(); found != "the accelerators INACCEL_COM_XGBOOST_EXACT, XILINX_AWS_VU47P_F2" {
		t.Error(found)
	}
}

func TestWithoutAnAddressThereIsNoBoard(t *testing.T) {
	for _, environment := range [][]string{nil, {"HOME=/root"}, {"PCIDEVICE_XILINX_U250="}, {"FPGA_COPIES_XILINX_U250=0000:3b:00.1/0"}} {
		boards, err := readBoards(environment)
		if err != nil || len(boards.Resources) != 0 || boards.accelerators() != "an accelerator" {
			t.Errorf("%q: found %+v and %v", environment, boards, err)
		}
	}
}

func TestWhatIsNoAddressIsRefusedWithItsName(t *testing.T) {
	for _, value := range []string{"yes", "3b:00.1", "0000:3b:00.1,", "0000:3b:00.9", "0000:3b:00.1 "} {
		if _, err := readBoards([]string{"PCIDEVICE_XILINX_U250=" + value}); err == nil || !strings.Contains(err.Error(), "PCIDEVICE_XILINX_U250: found ") {
			t.Errorf("%q: found error %v", value, err)
		}
	}
}

func TestTheSameSeedGivesTheSameDataAndAnotherDoesNot(t *testing.T) {
	first, again, other := makeData(500, 4, 7), makeData(500, 4, 7), makeData(500, 4, 8)
	if !reflect.DeepEqual(first, again) {
		t.Error("the same seed gave other data")
	}
	if slices.Equal(first.Features, other.Features) || slices.Equal(first.Labels, other.Labels) {
		t.Error("another seed gave the same data")
	}
}

func TestTheDataHaveTheirSizeAndBothLabelsInPlenty(t *testing.T) {
	for _, size := range [][2]int{{fewestRows, fewestColumns}, {2000, 20}} {
		data := makeData(size[0], size[1], 1)
		if len(data.Features) != size[0]*size[1] || len(data.Labels) != size[0] {
			t.Fatalf("%v: found %d values and %d labels", size, len(data.Features), len(data.Labels))
		}
		ones := 0
		for _, label := range data.Labels {
			if label == 1 {
				ones++
			}
		}
		if ones < size[0]/4 || ones > 3*size[0]/4 {
			t.Errorf("%v: found %d ones", size, ones)
		}
	}
}

func TestALowerErrorIsBetterAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		first, last float64
		better      bool
	}{{0.5, 0.4, true}, {0.5, 0.5, false}, {0.4, 0.5, false}, {0.5, math.NaN(), false}, {math.NaN(), 0.5, false}} {
		if found := (Fit{First: c.first, Last: c.last}).better(); found != c.better {
			t.Errorf("%v after %v: found %v", c.last, c.first, found)
		}
	}
}

func TestTheErrorIsReadOutOfXGBoostsLine(t *testing.T) {
	if found, err := parseLogloss("[3]\ttrain-logloss:0.51285759"); err != nil || found != 0.51285759 {
		t.Errorf("found %v, %v", found, err)
	}
	for _, line := range []string{"", "[0]\ttrain-error:0.5", "[0]\ttrain-logloss:low"} {
		if _, err := parseLogloss(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func TestACStringEndsAtItsZero(t *testing.T) {
	if found := text(&[]byte("ab\x00c")[0]); found != "ab" {
		t.Errorf("found %q", found)
	}
}
