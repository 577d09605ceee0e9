package main

import "math/rand/v2"

const (
	fewestRows    = 100
	fewestColumns = 3
	// So that a fit always has something left to learn.
	noise = 0.3
)

// Data is a table by rows, and a label of 0 or 1 for each.
type Data struct {
	Rows, Columns int
	Features      []float32
	Labels        []float32
}

// makeData makes a task that trees can learn and a line cannot: the sign of one column's product with another, and a third.
func makeData(rows, columns int, seed uint64) Data {
	source := rand.New(rand.NewPCG(seed, 0))
	data := Data{Rows: rows, Columns: columns, Features: make([]float32, 0, rows*columns), Labels: make([]float32, rows)}
	for row := range rows {
		for range columns {
			data.Features = append(data.Features, float32(source.NormFloat64()))
		}
		x := data.Features[row*columns:]
		if x[0]*x[1]+x[2]+noise*float32(source.NormFloat64()) > 0 {
			data.Labels[row] = 1
		}
	}
	return data
}
