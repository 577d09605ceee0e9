package main

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	safeToEvict       = "cluster-autoscaler.kubernetes.io/safe-to-evict"
	scaleDownDisabled = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
	// Idle nodes that may go at once (--max-scale-down-parallelism); of those with pods one goes at a time (--max-drain-parallelism).
	idleAtOnce = 10
)

// scaleDown finds nodes that are not needed, and those that have not been for long enough.
func (m *Memory) scaleDown(v *view) []Removal {
	if !v.settings.ScaleDown {
		return nil
	}
	for node, until := range m.unremovable {
		if v.all[node] == nil || !v.Now.Before(until) {
			delete(m.unremovable, node)
		}
	}
	rest := slices.Clone(v.ready)
	unneeded := map[string]time.Time{}
	var found []Removal
	for _, p := range v.candidates(m) {
		others := clone(rest, p.node.Name)
		if why := v.immovable(p, others); why != "" {
			m.unremovable[p.node.Name] = v.Now.Add(v.settings.Recheck)
			continue
		}
		rest = others
		since, known := m.unneeded[p.node.Name]
		if !known {
			since = v.Now
		}
		unneeded[p.node.Name] = since
		found = append(found, Removal{v.groupOf[p.node.Name].Name, v.instance[p.node.Name], p.node, v.movable(p)})
	}
	m.unneeded = unneeded
	if v.Now.Sub(m.lastAdd) < v.settings.DelayAfterAdd || v.Now.Sub(m.lastDelete) < v.settings.DelayAfterDelete || v.Now.Sub(m.lastFailure) < v.settings.DelayAfterFailure {
		return nil
	}
	return m.due(v, found)
}

// due are those that may go now, with idle ones first and no group below its least size.
func (m *Memory) due(v *view, found []Removal) []Removal {
	spare := map[string]int{}
	for i := range v.Groups {
		spare[v.Groups[i].Name] = v.Groups[i].Desired - v.Groups[i].Min
	}
	for node := range v.all {
		if group := v.groupOf[node]; group != nil && (m.leaving[node] || stateOf(v.all[node].node, v.Now) == leaving) {
			spare[group.Name]--
		}
	}
	idle, drains := idleAtOnce, 1
	if len(m.leaving) > 0 {
		drains = 0
	}
	var chosen []Removal
	for _, one := range found {
		group := v.groupOf[one.Node.Name]
		patience := group.duration("scaledownunneededtime", v.settings.UnneededTime)
		if stateOf(one.Node, v.Now) != ready {
			patience = group.duration("scaledownunreadytime", v.settings.UnreadyTime)
		}
		left := &idle
		if len(one.Evict) > 0 {
			left = &drains
		}
		if *left == 0 || spare[group.Name] <= 0 || v.Now.Sub(m.unneeded[one.Node.Name]) < patience {
			continue
		}
		*left--
		spare[group.Name]--
		chosen = append(chosen, one)
	}
	return chosen
}

// candidates are nodes of groups that look unused, those without pods first.
func (v *view) candidates(m *Memory) []*place {
	var found []*place
	for _, node := range v.Nodes {
		group, p := v.groupOf[node.Name], v.all[node.Name]
		now := stateOf(node, v.Now)
		_, recent := m.unremovable[node.Name]
		switch {
		case group == nil, now == leaving, m.leaving[node.Name], now == starting && !hasStarted(node), recent:
		case node.Annotations[scaleDownDisabled] == "true":
		case p.utilization() >= group.threshold(v.settings.Utilization):
		default:
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b *place) int { return cmp.Compare(min(1, len(v.movable(a))), min(1, len(v.movable(b)))) })
	return found
}

// hasStarted tells a node whose kubelet is well from one that was never seen so; only the startup taint may be left on it.
func hasStarted(node *v1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(condition v1.NodeCondition) bool {
		return condition.Type == v1.NodeReady && condition.Status == v1.ConditionTrue
	})
}

// movable are the pods that would have to be evicted.
func (v *view) movable(p *place) []*v1.Pod {
	var found []*v1.Pod
	for _, pod := range p.pods {
		if pod.Spec.NodeName != "" && !isMirror(pod) && !isDaemon(pod) && !hasEnded(pod) {
			found = append(found, pod)
		}
	}
	return found
}

// immovable says what keeps the node; "" if all its pods find another place among others, which they then take.
func (v *view) immovable(p *place, others []*place) string {
	for _, pod := range p.pods {
		if isMirror(pod) || isDaemon(pod) {
			continue
		}
		if why := v.holds(pod); why != "" {
			return pod.Namespace + "/" + pod.Name + ": " + why
		}
		if !put(pod, others) {
			return pod.Namespace + "/" + pod.Name + ": there is no other place for it"
		}
	}
	return ""
}

// holds says why a pod may not be evicted (simulator/drainability/rules).
func (v *view) holds(pod *v1.Pod) string {
	said := pod.Annotations[safeToEvict]
	budget, enough := v.budget(pod)
	switch {
	case budget && !enough:
		return "its PodDisruptionBudget allows no disruption"
	case said == "true":
		return ""
	case said == "false":
		return "annotation " + safeToEvict + " is false"
	case controller(pod) == nil:
		return "nobody would make it again"
	case pod.Namespace == metav1.NamespaceSystem && !budget && v.settings.SkipSystemPods:
		return "it is of kube-system"
	case v.settings.SkipLocalStorage && slices.ContainsFunc(pod.Spec.Volumes, isLocal):
		return "it has local storage"
	}
	return ""
}

func isLocal(volume v1.Volume) bool {
	return volume.HostPath != nil || (volume.EmptyDir != nil && volume.EmptyDir.Medium != v1.StorageMediumMemory)
}

// budget tells whether a PodDisruptionBudget counts the pod, and whether all that do allow a disruption.
func (v *view) budget(pod *v1.Pod) (found, enough bool) {
	enough = true
	for _, one := range v.Budgets {
		selector, err := metav1.LabelSelectorAsSelector(one.Spec.Selector)
		if err == nil && one.Namespace == pod.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			found = true
			enough = enough && one.Status.DisruptionsAllowed > 0
		}
	}
	return found, enough
}

func clone(places []*place, without string) []*place {
	var found []*place
	for _, p := range places {
		if p.node.Name != without {
			found = append(found, newPlace(p.node, p.pods...))
		}
	}
	return found
}
