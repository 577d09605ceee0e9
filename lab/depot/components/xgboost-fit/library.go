package main

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// One thread: a stand-in for hardware that leaves the CPU alone must not take all of the node's.
const threads = 1

// What is fitted; the rest is XGBoost's default.
var parameters = [][2]string{
	{"tree_method", "exact"},
	{"objective", "binary:logistic"},
	{"eval_metric", "logloss"},
	{"nthread", strconv.Itoa(threads)},
}

// Library is XGBoost's C API (xgboost/c_api.h), as far as it is used. All but two of its functions return 0, or say by XGBGetLastError what went wrong.
type Library struct {
	lastError     func() string
	getVersion    func(major, minor, patch *int32)
	createMatrix  func(data []float32, rows, columns uint64, missing float32, matrix *uintptr, threads int32) int32
	setFloatInfo  func(matrix uintptr, field string, values []float32, length uint64) int32
	freeMatrix    func(matrix uintptr) int32
	createBooster func(matrices *uintptr, length uint64, booster *uintptr) int32
	setParameter  func(booster uintptr, name, value string) int32
	updateOneIter func(booster uintptr, iteration int32, matrix uintptr) int32
	evalOneIter   func(booster uintptr, iteration int32, matrices *uintptr, names **byte, length uint64, answer **byte) int32
	freeBooster   func(booster uintptr) int32
}

func openLibrary(path string) (*Library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("found no XGBoost: %w. Give the path of libxgboost.so by --library", err)
	}
	library := &Library{}
	for name, function := range map[string]any{
		"XGBGetLastError":            &library.lastError,
		"XGBoostVersion":             &library.getVersion,
		"XGDMatrixCreateFromMat_omp": &library.createMatrix,
		"XGDMatrixSetFloatInfo":      &library.setFloatInfo,
		"XGDMatrixFree":              &library.freeMatrix,
		"XGBoosterCreate":            &library.createBooster,
		"XGBoosterSetParam":          &library.setParameter,
		"XGBoosterUpdateOneIter":     &library.updateOneIter,
		"XGBoosterEvalOneIter":       &library.evalOneIter,
		"XGBoosterFree":              &library.freeBooster,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("%s: found no function %s; expected XGBoost's C API: %w", path, name, err)
		}
		purego.RegisterFunc(function, symbol)
	}
	return library, nil
}

func (l *Library) version() string {
	var major, minor, patch int32
	l.getVersion(&major, &minor, &patch)
	return fmt.Sprintf("%d.%d.%d", major, minor, patch)
}

// check makes an error of a status.
func (l *Library) check(what string, status int32) error {
	if status == 0 {
		return nil
	}
	// The first line says it; a stack trace follows.
	reason, _, _ := strings.Cut(strings.TrimSpace(l.lastError()), "\n")
	return fmt.Errorf("XGBoost: %s: %s", what, reason)
}

// Booster is a model in the making, and what it is made from.
type Booster struct {
	library        *Library
	handle, matrix uintptr
	unlock         func()
}

// newBooster takes the OS thread until it is freed: errors and answers are the thread's own in the library.
func (l *Library) newBooster(data Data) (*Booster, error) {
	runtime.LockOSThread()
	booster := &Booster{library: l, unlock: runtime.UnlockOSThread}
	if err := booster.prepare(data); err != nil {
		booster.free()
		return nil, err
	}
	return booster, nil
}

func (b *Booster) prepare(data Data) error {
	l := b.library
	missing := float32(math.NaN())
	if err := l.check("data", l.createMatrix(data.Features, uint64(data.Rows), uint64(data.Columns), missing, &b.matrix, threads)); err != nil {
		return err
	}
	if err := l.check("labels", l.setFloatInfo(b.matrix, "label", data.Labels, uint64(len(data.Labels)))); err != nil {
		return err
	}
	if err := l.check("booster", l.createBooster(&b.matrix, 1, &b.handle)); err != nil {
		return err
	}
	for _, parameter := range parameters {
		if err := l.check(parameter[0], l.setParameter(b.handle, parameter[0], parameter[1])); err != nil {
			return err
		}
	}
	return nil
}

func (b *Booster) update(iteration int) error {
	return b.library.check(fmt.Sprintf("round %d", iteration+1), b.library.updateOneIter(b.handle, int32(iteration), b.matrix))
}

// logloss of the data that it learns from.
func (b *Booster) logloss(iteration int) (float64, error) {
	name := append([]byte("train"), 0)
	first := &name[0]
	var answer *byte
	status := b.library.evalOneIter(b.handle, int32(iteration), &b.matrix, &first, 1, &answer)
	runtime.KeepAlive(name)
	if err := b.library.check("evaluation", status); err != nil {
		return 0, err
	}
	return parseLogloss(text(answer))
}

// parseLogloss reads "[0]\ttrain-logloss:0.52".
func parseLogloss(line string) (float64, error) {
	_, value, found := strings.Cut(line, "train-logloss:")
	if !found {
		return 0, fmt.Errorf("XGBoost: evaluation: found %q; expected train-logloss:NUMBER", line)
	}
	return strconv.ParseFloat(value, 64)
}

// text copies a C string.
func text(start *byte) string {
	length := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(start), length)) != 0 {
		length++
	}
	return string(unsafe.Slice(start, length))
}

func (b *Booster) free() {
	if b.handle != 0 {
		b.library.freeBooster(b.handle)
	}
	if b.matrix != 0 {
		b.library.freeMatrix(b.matrix)
	}
	b.unlock()
}
