// Probe answers and asks over HTTP, for the lab's checks between pods.
//
//	probe serve :8080        GET / -> "pod=<hostname> from=<client>"; GET /bytes?n=N -> N bytes; POST /sink -> what arrived
//	probe get URL [N]        GET, or POST of N bytes; prints the answer (when short), status, length and seconds
//	probe resolve NAME       prints the addresses of NAME
//	probe sleep              stays until it is told to go
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const longestRequest = 20 * time.Second

func serve(address string) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "pod=%s from=%s\n", hostname, r.RemoteAddr)
	})
	http.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil || n < 0 {
			http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
			return
		}
		io.CopyN(w, zeros{}, int64(n))
	})
	http.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "pod=%s got=%d err=%v\n", hostname, n, err)
	})
	fmt.Println("serving", address, "on", hostname)
	return http.ListenAndServe(address, nil)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func get(url string, post []string) error {
	begun := time.Now()
	client := http.Client{Timeout: longestRequest}
	var answer *http.Response
	var err error
	if len(post) == 0 {
		answer, err = client.Get(url)
	} else {
		n, convErr := strconv.Atoi(post[0])
		if convErr != nil {
			return convErr
		}
		answer, err = client.Post(url, "application/octet-stream", bytes.NewReader(make([]byte, n)))
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if len(body) < 200 {
		fmt.Print(string(body))
	}
	fmt.Printf("status=%d len=%d secs=%.3f\n", answer.StatusCode, len(body), time.Since(begun).Seconds())
	if answer.StatusCode >= 400 {
		return errors.New(answer.Status)
	}
	return nil
}

func resolve(name string) error {
	addresses, err := net.LookupHost(name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, " "))
	return nil
}

func sleep() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	return nil
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "serve":
		return serve(arguments[1])
	case (len(arguments) == 2 || len(arguments) == 3) && arguments[0] == "get":
		return get(arguments[1], arguments[2:])
	case len(arguments) == 2 && arguments[0] == "resolve":
		return resolve(arguments[1])
	case len(arguments) == 1 && arguments[0] == "sleep":
		return sleep()
	}
	return errors.New("usage: probe serve :PORT | get URL [N] | resolve NAME | sleep")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
