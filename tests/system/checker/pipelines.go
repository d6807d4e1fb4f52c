package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Version is a version of a pipeline: which upload stored which content, under which id.
type Version struct {
	Request string `json:"request"`
	Content string `json:"content"`
	ID      string `json:"id"`
}

// name is what a pipeline name stands for: the versions under it, sorted by request, and the pipelines it has lost.
//
// A pipeline without versions counts as none: an interrupted upload leaves it, and the next one adopts it. An id is
// `?` as long as no call returned it.
type name struct {
	pipeline string
	versions []Version
	gone     []string
}

const notKnown = "?"

var pipelines = porcupine.NondeterministicModel{
	Init: func() []any { return []any{name{}} },
	Step: func(state, input, _ any) []any {
		var next []any
		for _, one := range pipelineStep(state.(name), input.(Call)) {
			next = append(next, one)
		}
		return next
	},
	Equal: func(a, b any) bool {
		one, other := a.(name), b.(name)
		return one.pipeline == other.pipeline && slices.Equal(one.versions, other.versions) &&
			slices.Equal(one.gone, other.gone)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

// pipelineSteps replaces deletions without force by their two steps, and marks refusals that another upload explains.
func pipelineSteps(calls []Call) []Call {
	var steps []Call
	for n, call := range calls {
		if call.Op == "upload" && call.Outcome == "PIPELINE_EXISTS" {
			call.contended = slices.ContainsFunc(calls, func(other Call) bool {
				return other.Op == "upload" && other.Request != call.Request && other.Begin <= call.End && call.Begin <= other.End
			})
		}
		if call.Op == "delete" {
			drop := calls[n]
			drop.Op = "drop"
			steps = append(steps, drop)
		}
		steps = append(steps, call)
	}
	return steps
}

// pipelineStep returns what a name may stand for after a step; nothing if the step cannot have had its outcome.
func pipelineStep(now name, call Call) []name {
	switch call.Op {
	case "upload":
		return upload(now, call)
	case "versions": // ListVersions
		return now.holds(call.Pipeline, call.Versions, len(call.Versions))
	case "get": // Get in full: the latest version, and how many there are
		return now.holds(call.Pipeline, call.Versions, call.Count)
	case "listed": // List: the pipeline of the name, if it has one
		if call.Pipeline == "" || len(now.versions) == 0 {
			return now.unless(len(now.versions) > 0 || slices.Contains(now.gone, call.Pipeline))
		}
		return now.holds(call.Pipeline, nil, len(now.versions))
	case "drop": // the first step of Delete without force: a version is deleted, the only one that it had seen
		next := []name{now}
		for n := range now.versions {
			one := now
			one.versions = slices.Delete(slices.Clone(now.versions), n, n+1)
			next = append(next, one)
		}
		return next
	case "delete": // the second step: a pipeline without versions is deleted
		switch call.Outcome {
		case "PIPELINE_HAS_VERSIONS":
			return now.unless(len(now.versions) == 0)
		case unknown:
			return []name{now}
		}
		return remove(now, call)
	case "delete all": // Delete with force
		if call.Outcome == unknown {
			return []name{now, now.without(now.pipeline)}
		}
		if call.Outcome == ok && len(now.versions) > 0 && !slices.Contains(now.gone, call.Pipeline) {
			if now = now.as(call.Pipeline); now.pipeline != call.Pipeline {
				return nil
			}
			return []name{now.without(call.Pipeline)}
		}
		return remove(now, call)
	}
	return nil
}

// remove is the end of a deletion that found no version: of an empty pipeline, of one already deleted, or of none.
func remove(now name, call Call) []name {
	if call.Outcome == ok && slices.Contains(now.gone, call.Pipeline) {
		return []name{now}
	}
	if len(now.versions) > 0 {
		return nil
	}
	return []name{now.without(call.Pipeline)}
}

func upload(now name, call Call) []name {
	held := slices.IndexFunc(now.versions, func(one Version) bool { return one.Request == call.Request })
	same := slices.IndexFunc(now.versions, func(one Version) bool { return one.Content == call.Content })
	refused := held < 0 && (call.IfExists == "FAIL" && len(now.versions) > 0 || call.IfExists == "SKIP_IF_SAME" && same >= 0)
	switch call.Outcome {
	case ok:
		if !call.Created { // SKIP_IF_SAME found another upload's version
			for n, one := range now.versions {
				if one.Content == call.Content && (one.ID == call.Version || one.ID == notKnown) {
					return now.known(n, call.Pipeline, call.Version)
				}
			}
			return nil
		}
		if held >= 0 {
			return now.known(held, call.Pipeline, call.Version)
		}
		if refused {
			return nil
		}
		return now.with(Version{call.Request, call.Content, call.Version}, call.Pipeline)
	case "PIPELINE_EXISTS":
		return now.unless(len(now.versions) == 0 && !call.contended)
	}
	if held >= 0 || refused { // of unknown outcome
		return []name{now}
	}
	return append(now.with(Version{call.Request, call.Content, notKnown}, notKnown), now)
}

// holds returns the name, with its ids now known, if a read may have shown these versions of `count` in all.
func (now name) holds(pipeline string, versions []Version, count int) []name {
	if count != len(now.versions) {
		return nil
	}
	if count == 0 {
		return []name{now}
	}
	found := now.as(pipeline)
	if found.pipeline != pipeline {
		return nil
	}
	seen := map[string]bool{}
	for _, one := range versions {
		held := slices.IndexFunc(found.versions, func(other Version) bool { return other.Request == one.Request })
		if held < 0 || found.versions[held].Content != one.Content || seen[one.Request] {
			return nil
		}
		seen[one.Request] = true
		next := found.known(held, pipeline, one.ID)
		if next == nil {
			return nil
		}
		found = next[0]
	}
	return []name{found}
}

// known returns the name with the ids of its pipeline and of a version, unless it has others.
func (now name) known(n int, pipeline, version string) []name {
	now = now.as(pipeline)
	if now.pipeline != pipeline || (now.versions[n].ID != version && now.versions[n].ID != notKnown) {
		return nil
	}
	now.versions = slices.Clone(now.versions)
	now.versions[n].ID = version
	return []name{now}
}

// as returns the name with its pipeline's id where that was not known, and the id may be a new one.
func (now name) as(pipeline string) name {
	if now.pipeline == notKnown && !slices.Contains(now.gone, pipeline) {
		now.pipeline = pipeline
	}
	return now
}

// with returns the name with one more version; nothing if its pipeline is another one, or was deleted, or if the
// version is another upload's.
func (now name) with(version Version, pipeline string) []name {
	if version.ID != notKnown && slices.ContainsFunc(now.versions, func(one Version) bool { return one.ID == version.ID }) {
		return nil
	}
	if len(now.versions) == 0 {
		if slices.Contains(now.gone, pipeline) {
			return nil
		}
		now.pipeline = pipeline
	} else if pipeline != notKnown {
		if now = now.as(pipeline); now.pipeline != pipeline {
			return nil
		}
	}
	now.versions = append(slices.Clone(now.versions), version)
	slices.SortFunc(now.versions, func(a, b Version) int { return strings.Compare(a.Request, b.Request) })
	return []name{now}
}

// without returns the name after its pipeline was deleted.
func (now name) without(pipeline string) name {
	if pipeline == "" || pipeline == notKnown {
		return name{gone: now.gone}
	}
	gone := append(slices.Clone(now.gone), pipeline)
	slices.Sort(gone)
	return name{gone: slices.Compact(gone)}
}

func (now name) unless(impossible bool) []name {
	if impossible {
		return nil
	}
	return []name{now}
}
