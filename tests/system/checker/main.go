// Command checker checks recorded calls of the adapter against a model of its contract.
//
// It reads one call in a line as JSON, and writes one line for each pipeline name or run whose calls no order explains.
// It exits with 1 if there is one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

const patience = 60 * time.Second

// Call is a recorded call about one pipeline name or run. Its effect, if it has one, lies between Begin and End.
type Call struct {
	Key      string    `json:"key"` // pipeline/NAME or run/ID
	Op       string    `json:"op"`
	Client   int       `json:"client"`
	Begin    int64     `json:"begin"`
	End      int64     `json:"end"`
	Outcome  string    `json:"outcome"` // ok, missing, unknown, or the reason of a refusal
	Request  string    `json:"request"`
	Content  string    `json:"content"`
	IfExists string    `json:"if_exists"`
	Pipeline string    `json:"pipeline"`
	Version  string    `json:"version"`
	Created  bool      `json:"created"`
	Versions []Version `json:"versions"`
	Count    int       `json:"count"`
	State    string    `json:"state"`

	contended bool // another upload of the name was under way
}

const (
	ok      = "ok"
	missing = "missing"
	unknown = "unknown"
)

func main() {
	keys, total := read()
	var verdicts, bad sync.WaitGroup
	lines, slots := make(chan string), make(chan struct{}, runtime.NumCPU())
	for key, calls := range keys {
		verdicts.Add(1)
		go func() {
			defer verdicts.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			if line := check(key, calls); line != "" {
				lines <- line
			}
		}()
	}
	found := 0
	bad.Add(1)
	go func() {
		defer bad.Done()
		for line := range lines {
			fmt.Println(line)
			found++
		}
	}()
	verdicts.Wait()
	close(lines)
	bad.Wait()
	fmt.Fprintf(os.Stderr, "%d calls about %d keys, %d without an order\n", total, len(keys), found)
	if found > 0 {
		os.Exit(1)
	}
}

func read() (map[string][]Call, int) {
	keys, total := map[string][]Call{}, 0
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, math.MaxInt32)
	for scanner.Scan() {
		var call Call
		if err := json.Unmarshal(scanner.Bytes(), &call); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		keys[call.Key] = append(keys[call.Key], call)
		total++
	}
	return keys, total
}

// check returns why no order of the calls explains what they returned; empty if one does.
func check(key string, calls []Call) string {
	model, steps := runs, runSteps(calls)
	if strings.HasPrefix(key, "pipeline/") {
		model, steps = pipelines, pipelineSteps(calls)
	}
	operations := make([]porcupine.Operation, len(steps))
	for n, call := range steps {
		operations[n] = porcupine.Operation{ClientId: call.Client, Input: call, Call: call.Begin, Return: call.End}
	}
	result, info := porcupine.CheckOperationsVerbose(model.ToModel(), operations, patience)
	if result == porcupine.Ok {
		return ""
	}
	if result == porcupine.Unknown {
		return fmt.Sprintf("%s: not decided within %v, %d calls", key, patience, len(calls))
	}
	return fmt.Sprintf("%s: %s", key, firstLeftOver(operations, info.PartialLinearizationsOperations()))
}

// firstLeftOver describes the call that ends first of those that the longest explained order leaves over.
func firstLeftOver(all []porcupine.Operation, partial [][][]porcupine.Operation) string {
	placed := map[string]int{}
	longest := []porcupine.Operation{}
	for _, partition := range partial {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	for _, one := range longest {
		placed[describe(one.Input)]++
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].Return < all[b].Return })
	for _, one := range all {
		text := describe(one.Input)
		if placed[text] == 0 {
			return fmt.Sprintf("after %d of %d steps none explains %s", len(longest), len(all), text)
		}
		placed[text]--
	}
	return "no order"
}

func describe(input any) string {
	text, _ := json.Marshal(input)
	return string(text)
}
