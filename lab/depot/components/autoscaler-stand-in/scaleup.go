package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Pods below this priority start nothing, as with upstream (--expendable-pods-priority-cutoff).
const expendable = -10

func priority(pod *v1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// isPending tells whether the scheduler has found no node for it.
func isPending(pod *v1.Pod) bool {
	if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || hasEnded(pod) || isDaemon(pod) || priority(pod) < expendable {
		return false
	}
	return slices.ContainsFunc(pod.Status.Conditions, func(condition v1.PodCondition) bool {
		return condition.Type == v1.PodScheduled && condition.Status == v1.ConditionFalse && condition.Reason == v1.PodReasonUnschedulable
	})
}

// option is what one group could do.
type option struct {
	group *Group
	bins  []*place
	pods  []*v1.Pod
	waste float64
}

// scaleUp raises one group: the one that would leave the least CPU and memory unused. idle gets the pods that no group helps.
func (m *Memory) scaleUp(v *view, idle map[*v1.Pod]string) *Raise {
	var waiting []*v1.Pod
	upcoming := v.upcoming()
	for _, pod := range v.pending() {
		// Pods that fit are counted where they fit, so that the same room is not given twice.
		if !put(pod, v.ready) && !put(pod, upcoming) {
			waiting = append(waiting, pod)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	room := len(waiting)
	if v.settings.MaxNodesTotal > 0 {
		room = v.settings.MaxNodesTotal - len(v.Nodes) - v.unseen(len(upcoming))
	}
	var options []option
	refusals := map[*v1.Pod]map[string]int{}
	for i := range v.Groups {
		group := &v.Groups[i]
		found := m.offer(v, group, waiting, room, refusals)
		if len(found.pods) > 0 {
			options = append(options, found)
		}
	}
	helped := map[*v1.Pod]bool{}
	for _, found := range options {
		for _, pod := range found.pods {
			helped[pod] = true
		}
	}
	for _, pod := range waiting {
		if !helped[pod] {
			idle[pod] = counted(refusals[pod])
		}
	}
	if len(options) == 0 {
		return nil
	}
	best := slices.MinFunc(options, func(a, b option) int {
		return cmp.Or(cmp.Compare(a.waste, b.waste), cmp.Compare(a.group.Name, b.group.Name))
	})
	return &Raise{best.group.Name, best.group.Desired, best.group.Desired + len(best.bins), best.pods}
}

func (v *view) pending() []*v1.Pod {
	var found []*v1.Pod
	for _, pod := range v.Pods {
		if isPending(pod) {
			found = append(found, pod)
		}
	}
	slices.SortStableFunc(found, func(a, b *v1.Pod) int {
		return cmp.Or(cmp.Compare(priority(b), priority(a)), size(b).Cmp(size(a)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return found
}

type amounts struct{ cpu, memory int64 }

func (a amounts) Cmp(b amounts) int {
	return cmp.Or(cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.memory, b.memory))
}

func size(pod *v1.Pod) amounts {
	wanted := requests(pod)
	return amounts{wanted.Cpu().MilliValue(), wanted.Memory().Value()}
}

// upcoming are the nodes that were asked for and are not there: instances that boot, or that have not given what they promise.
func (v *view) upcoming() []*place {
	var found []*place
	for i := range v.Groups {
		group := &v.Groups[i]
		template := v.templates[group.Name]
		if template == nil {
			continue
		}
		for range max(0, group.Desired-v.started[group.Name]) {
			found = append(found, newPlace(template.node, template.pods...))
		}
	}
	return found
}

// unseen of the upcoming ones are those that have no Node yet.
func (v *view) unseen(upcoming int) int {
	for _, node := range v.Nodes {
		if v.groupOf[node.Name] != nil && stateOf(node, v.Now) == starting {
			upcoming--
		}
	}
	return max(0, upcoming)
}

// offer fills new nodes of the group with pods, the large ones first.
func (m *Memory) offer(v *view, group *Group, waiting []*v1.Pod, room int, refusals map[*v1.Pod]map[string]int) option {
	found := option{group: group}
	refuse := func(pod *v1.Pod, why string) {
		if refusals[pod] == nil {
			refusals[pod] = map[string]int{}
		}
		refusals[pod][why]++
	}
	template := v.templates[group.Name]
	limit, limited := min(group.Max-group.Desired, room), ""
	switch {
	case template == nil:
		limit, limited = 0, "node group whose nodes are not known"
	case v.Now.Before(m.backoffs[group.Name].until):
		limit, limited = 0, "in backoff after failed scale-up"
	case group.Desired >= group.Max:
		limited = "max node group size reached"
	default:
		limited = "max cluster size reached"
	}
	for _, pod := range waiting {
		if template == nil {
			refuse(pod, limited)
			continue
		}
		// What would never fit is said rather than a limit.
		if why := newPlace(template.node, template.pods...).refusal(pod); why != "" {
			refuse(pod, why)
			continue
		}
		if put(pod, found.bins) {
			found.pods = append(found.pods, pod)
		} else if len(found.bins) < limit {
			bin := newPlace(template.node, template.pods...)
			bin.add(pod)
			found.bins, found.pods = append(found.bins, bin), append(found.pods, pod)
		} else {
			refuse(pod, limited)
		}
	}
	found.waste = waste(found)
	return found
}

// waste is the unused share of CPU plus that of memory, of all new nodes together: of what they have, not of what pods get (expander/waste/waste.go).
func waste(o option) float64 {
	var have, want v1.ResourceList = v1.ResourceList{}, v1.ResourceList{}
	for _, bin := range o.bins {
		sum(have, bin.node.Status.Capacity)
	}
	for _, pod := range o.pods {
		sum(want, requests(pod))
	}
	total := 0.0
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		all, used := have[name], want[name]
		if !all.IsZero() {
			total += 1 - used.AsApproximateFloat64()/all.AsApproximateFloat64()
		}
	}
	return total
}

func sum(to, what v1.ResourceList) {
	for name, amount := range what {
		found := to[name]
		found.Add(amount)
		to[name] = found
	}
}

func counted(reasons map[string]int) string {
	var words []string
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		words = append(words, fmt.Sprintf("%d %s", reasons[why], why))
	}
	return strings.Join(words, ", ")
}
