// Xgboost-fit is what the lab's evaluation jobs run: a fit by XGBoost's exact method, by XGBoost's own library, on the CPU. It stands in for the
// accelerator that would do it on the FPGA, and says so in its first line. What it proves of the FPGA is that the job was given one.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Where the image has the library: beside its own libgomp, as in the wheel.
const inImage = "/opt/xgboost/xgboost/lib/libxgboost.so"

// What ends a process by a signal, as shells count it.
const bySignal = 128

func main() {
	endBySignal()
	settings, err := parseSettings(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "xgboost-fit:", err)
		os.Exit(2)
	}
	if err := run(settings, os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, "xgboost-fit:", err)
		os.Exit(1)
	}
}

// endBySignal ends the process at once, also while the library computes: as PID 1 of a container it would otherwise not be ended by SIGTERM.
func endBySignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		received := (<-signals).(syscall.Signal)
		fmt.Fprintln(os.Stderr, "xgboost-fit: ended by", received)
		os.Exit(bySignal + int(received))
	}()
}

func run(settings Settings, environment []string) error {
	library, err := openLibrary(settings.Library)
	if err != nil {
		return err
	}
	boards, err := readBoards(environment)
	if err != nil {
		return err
	}
	fmt.Printf("stand-in: this is XGBoost %s's exact method on the CPU, in place of %s\n", library.version(), boards.accelerators())
	for _, variable := range boards.Variables {
		fmt.Println("given:", variable)
	}
	if len(boards.Resources) == 0 {
		if !settings.WithoutBoard {
			return errors.New("found no PCIDEVICE_... in the environment; expected a board of fpga.hybrid's device plugin. " +
				"Ask for one in the container's limits (inaccel.com/xgboost.exact: 1), or give --without-board")
		}
		fmt.Println("given: no board, as --without-board allows")
	}
	data := makeData(settings.Rows, settings.Columns, settings.Seed)
	fmt.Printf("data: %d rows of %d columns, seed %d\n", settings.Rows, settings.Columns, settings.Seed)
	result, err := fitUntil(settings, library, data)
	if err != nil {
		return err
	}
	fmt.Printf("train logloss: %.6f after round 1, %.6f after round %d\n", result.First, result.Last, result.Rounds)
	fmt.Printf("rounds: %d in %.1f s (fits: %d)\n", result.AllRounds, result.Took.Seconds(), result.Fits)
	return nil
}

// Result is the first fit's, which no later one has more rounds than, and what all did together.
type Result struct {
	Fit
	Fits, AllRounds int
	Took            time.Duration
}

// fitUntil fits anew, for as long as it was told: one fit without end would need ever more memory, for trees that have nothing left to learn.
func fitUntil(settings Settings, library *Library, data Data) (Result, error) {
	begun := time.Now()
	result := Result{}
	for result.Fits == 0 || !settings.enough(result.AllRounds, time.Since(begun)) {
		done, err := fit(library, data, func(rounds int) bool { return settings.endsFit(rounds, time.Since(begun)) })
		if err != nil {
			return result, err
		}
		if !done.better() {
			return result, fmt.Errorf("the fit got no better: train logloss was %g after round 1 and is %g after round %d", done.First, done.Last, done.Rounds)
		}
		if result.Fits == 0 {
			result.Fit = done
		}
		result.Fits++
		result.AllRounds += done.Rounds
	}
	result.Took = time.Since(begun)
	return result, nil
}

// Fit is the train error after the first and after the last round.
type Fit struct {
	First, Last float64
	Rounds      int
}

// better is false for NaN, too.
func (f Fit) better() bool { return f.Last < f.First }

func fit(library *Library, data Data, ends func(rounds int) bool) (Fit, error) {
	booster, err := library.newBooster(data)
	if err != nil {
		return Fit{}, err
	}
	defer booster.free()
	done := Fit{}
	for !ends(done.Rounds) {
		if err := booster.update(done.Rounds); err != nil {
			return done, err
		}
		done.Rounds++
		if done.Rounds == 1 {
			if done.First, err = booster.logloss(done.Rounds); err != nil {
				return done, err
			}
		}
	}
	done.Last, err = booster.logloss(done.Rounds)
	return done, err
}
