package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// What fpga.hybrid's device plugin sets for a container, before the resource's name in capitals.
const (
	addressesOf = "PCIDEVICE_"
	copiesOf    = "FPGA_COPIES_"
	slotsOf     = "FPGA_SLOTS_"
)

var address = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// Boards is what a container was given.
type Boards struct {
	// In capitals, as the environment names them.
	Resources []string
	// NAME=value, all that the plugin set.
	Variables []string
}

// accelerators names them, for a sentence.
func (b Boards) accelerators() string {
	switch len(b.Resources) {
	case 0:
		return "an accelerator"
	case 1:
		return "the accelerator " + b.Resources[0]
	}
	return "the accelerators " + strings.Join(b.Resources, ", ")
}

func readBoards(environment []string) (Boards, error) {
	boards := Boards{}
	for _, variable := range slices.Sorted(slices.Values(environment)) {
		name, value, _ := strings.Cut(variable, "=")
		resource, addresses := strings.CutPrefix(name, addressesOf)
		switch {
		case addresses && value != "":
			for _, word := range strings.Split(value, ",") {
				if !address.MatchString(word) {
					return Boards{}, fmt.Errorf("%s: found %q; expected addresses of PCI functions such as 0000:3b:00.1", name, value)
				}
			}
			boards.Resources = append(boards.Resources, resource)
		case addresses, strings.HasPrefix(name, copiesOf), strings.HasPrefix(name, slotsOf):
		default:
			continue
		}
		boards.Variables = append(boards.Variables, variable)
	}
	return boards, nil
}
