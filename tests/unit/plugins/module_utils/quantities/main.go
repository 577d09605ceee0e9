// What Kubernetes makes of quantities, one JSON object a line; answers.jsonl was written by
//
//	go run . < inputs > answers.jsonl
//
// in a module that requires k8s.io/apimachinery v0.36.3. An input is a line.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"k8s.io/apimachinery/pkg/api/resource"
)

func main() {
	type answer struct {
		Input     string `json:"input"`
		Error     bool   `json:"error,omitempty"`
		Canonical string `json:"canonical,omitempty"`
		Format    string `json:"format,omitempty"`
		Value     int64  `json:"value,omitempty"`
		Milli     int64  `json:"milli,omitempty"`
	}
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		q, err := resource.ParseQuantity(lines.Text())
		a := answer{Input: lines.Text(), Error: err != nil}
		if err == nil {
			r := q.DeepCopy()
			r.Add(resource.Quantity{}) // forgets the text that was parsed, so that String gives the canonical form
			a.Canonical, a.Format, a.Value, a.Milli = r.String(), string(q.Format), q.Value(), q.MilliValue()
		}
		out.Encode(a)
	}
}
