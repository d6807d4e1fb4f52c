package main

import "github.com/anishathalye/porcupine"

// A run is absent, active, canceling, deleted, or has finished in a state, whose name it then is.
const (
	absent    = "absent"
	active    = "active"
	canceling = "canceling"
	deleted   = "deleted"
)

var phases = map[string]string{
	"": active, "PENDING": active, "RUNNING": active, "PAUSED": active, "CANCELING": canceling,
}

var runs = porcupine.NondeterministicModel{
	Init: func() []any { return []any{absent} },
	Step: func(state, input, _ any) []any {
		var next []any
		for _, one := range runStep(state.(string), input.(Call)) {
			next = append(next, one)
		}
		return next
	},
	DescribeState: func(state any) string { return state.(string) },
}

// runSteps splits Terminate and Retry of a run that was missing in two steps: another caller may have deleted the run
// after the call took effect and before it read the run back.
func runSteps(calls []Call) []Call {
	var steps []Call
	for _, call := range calls {
		if call.Outcome == missing && (call.Op == "terminate" || call.Op == "retry") {
			effect := call
			effect.Outcome = unknown
			steps = append(steps, effect)
		}
		steps = append(steps, call)
	}
	return steps
}

// runStep returns what a run may be after a step; nothing if the step cannot have had its outcome. A run finishes by
// itself, at any moment: an active one may have failed or succeeded when a step needs that.
func runStep(now string, call Call) []string {
	exists := now != absent && now != deleted
	switch call.Outcome {
	case missing:
		return only(now, !exists)
	case "RUN_NOT_RETRYABLE":
		return only(now, exists)
	}
	after := now
	switch call.Op {
	case "create":
		if !exists {
			after = active
		}
	case "listed":
		return only(now, exists && call.Count == 1)
	case "get":
		return observed(now, call.State)
	case "watch": // how a watch of the run ended
		if _, unfinished := phases[call.State]; unfinished {
			return nil
		}
		return observed(now, call.State)
	case "terminate":
		if now == active {
			after = canceling
		}
	case "retry":
		if !exists || now == "SUCCEEDED" {
			return only(now, call.Outcome == unknown)
		}
		after = active
	case "delete":
		if exists { // after a lost response, OK only says that there is none
			after = deleted
		}
	default:
		return nil
	}
	if call.Outcome == unknown {
		return []string{now, after}
	}
	return only(after, call.Op == "create" || call.Op == "delete" || exists)
}

func observed(now, state string) []string {
	phase, unfinished := phases[state]
	switch {
	case unfinished:
		return only(now, now == phase)
	case now == active:
		return only(state, state == "SUCCEEDED" || state == "FAILED")
	case now == canceling:
		return only(state, true)
	}
	return only(now, now == state)
}

func only(state string, possible bool) []string {
	if possible {
		return []string{state}
	}
	return nil
}
