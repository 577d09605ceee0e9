package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

const (
	// How long a node may be on its way, and how old one must be to stand for its group: upstream's, without flags in our roles.
	longestStart  = 15 * time.Minute
	laterNotReady = 2 * time.Minute
	stableAge     = time.Minute
	// When a failed scale-up of a group is forgotten.
	backoffMemory = 3 * time.Hour
)

// World is all that a decision is made of: AWS' answers and the API server's, and nothing else.
type World struct {
	Now     time.Time
	Nodes   []*v1.Node
	Pods    []*v1.Pod
	Daemons []*appsv1.DaemonSet
	Budgets []*policyv1.PodDisruptionBudget
	Groups  []Group
	// Failures has the newest failed launch of a group that has fewer instances than it wants.
	Failures map[string]Failure
}

// Failure is a launch that AWS could not do.
type Failure struct {
	At      time.Time
	Message string
}

// Memory is what one look leaves for the next.
type Memory struct {
	lastAdd, lastDelete, lastFailure time.Time
	raisedAt                         map[string]time.Time // by group
	backoffs                         map[string]backoff   // by group
	unregistered                     map[string]time.Time // instance -> first seen without a node
	unneeded                         map[string]time.Time // node -> since
	unremovable                      map[string]time.Time // node -> not looked at again until
	templates                        map[string]kept      // group -> its last node
	leaving                          map[string]bool      // nodes that are being drained or ended
}

type backoff struct {
	until  time.Time
	length time.Duration
}

type kept struct {
	node  *v1.Node
	until time.Time
}

func newMemory() *Memory {
	return &Memory{
		raisedAt: map[string]time.Time{}, backoffs: map[string]backoff{}, unregistered: map[string]time.Time{}, unneeded: map[string]time.Time{},
		unremovable: map[string]time.Time{}, templates: map[string]kept{}, leaving: map[string]bool{},
	}
}

// Decision is what is to be done now, and why pods got nothing.
type Decision struct {
	End     []Ending
	Lower   []Lowering
	Raise   *Raise
	Idle    map[*v1.Pod]string // pods that start no instance, and why
	Remove  []Removal
	Skipped []string // groups of which nobody knows what they would bring
}

// Ending is an instance that never became a node.
type Ending struct{ Group, Instance string }

// Lowering gives up instances that AWS could not launch.
type Lowering struct {
	Group, Why string
	From, To   int
}

// Raise is a scale-up.
type Raise struct {
	Group    string
	From, To int
	Pods     []*v1.Pod
}

// Removal is a scale-down. Evict is empty for an idle node.
type Removal struct {
	Group, Instance string
	Node            *v1.Node
	Evict           []*v1.Pod
}

func (m *Memory) decide(w World, s Settings) Decision {
	v := m.look(w, s)
	d := Decision{Idle: map[*v1.Pod]string{}, Skipped: v.skipped}
	// Like upstream, nothing else is done in a look that finds something like that.
	if d.End = m.endUnregistered(v); len(d.End) > 0 {
		return d
	}
	if d.Lower = m.giveUp(v); len(d.Lower) > 0 {
		return d
	}
	if d.Raise = m.scaleUp(v, d.Idle); d.Raise != nil {
		return d
	}
	d.Remove = m.scaleDown(v)
	return d
}

// fail keeps a group from being asked again for a while, twice as long with each time.
func (m *Memory) fail(group string, now time.Time, s Settings) {
	length := s.FirstBackoff
	if found, again := m.backoffs[group]; again && now.Before(found.until.Add(backoffMemory)) {
		length = min(2*found.length, s.LongestBackoff)
	}
	m.backoffs[group] = backoff{now.Add(length), length}
}

func (m *Memory) raised(group string, now time.Time) {
	m.lastAdd, m.raisedAt[group] = now, now
}

// view is the world, sorted out.
type view struct {
	World
	settings  Settings
	ready     []*place
	all       map[string]*place // by node
	groupOf   map[string]*Group // by node
	instance  map[string]string // by node
	started   map[string]int    // group -> nodes that are not on their way any more
	templates map[string]*place // by group; a group without one brings nothing
	skipped   []string
}

type state int

const (
	ready state = iota
	starting
	unready
	leaving
)

func stateOf(node *v1.Node, now time.Time) state {
	startup := false
	for _, taint := range node.Spec.Taints {
		if taint.Key == deletingTaint {
			return leaving
		}
		startup = startup || strings.HasPrefix(taint.Key, startupTaint)
	}
	young := now.Before(node.CreationTimestamp.Add(longestStart))
	for _, condition := range node.Status.Conditions {
		if condition.Type != v1.NodeReady {
			continue
		}
		switch {
		case condition.Status == v1.ConditionTrue && !startup:
			return ready
		case condition.Status == v1.ConditionTrue || condition.LastTransitionTime.Sub(node.CreationTimestamp.Time) < laterNotReady:
			if young {
				return starting
			}
		}
		return unready
	}
	if young {
		return starting
	}
	return unready
}

// instanceID of a node in AWS; "" for others, which belong to no group.
func instanceID(node *v1.Node) string {
	rest, found := strings.CutPrefix(node.Spec.ProviderID, "aws:///")
	if !found {
		return ""
	}
	return rest[strings.LastIndex(rest, "/")+1:]
}

func (m *Memory) look(w World, s Settings) *view {
	v := &view{
		World: w, settings: s, all: map[string]*place{}, groupOf: map[string]*Group{}, instance: map[string]string{}, started: map[string]int{},
		templates: map[string]*place{},
	}
	owner := map[string]*Group{}
	for i := range w.Groups {
		for _, instance := range w.Groups[i].Instances {
			owner[instance.ID] = &w.Groups[i]
		}
	}
	slices.SortFunc(v.Nodes, func(a, b *v1.Node) int { return cmp.Compare(a.Name, b.Name) })
	seen := map[string]bool{}
	for _, node := range v.Nodes {
		p := newPlace(node)
		v.all[node.Name] = p
		id := instanceID(node)
		found := stateOf(node, w.Now)
		if group := owner[id]; group != nil {
			v.groupOf[node.Name], v.instance[node.Name] = group, id
			seen[id] = true
			if found != starting {
				v.started[group.Name]++
			}
		}
		if found == ready {
			v.ready = append(v.ready, p)
		}
	}
	for _, pod := range w.Pods {
		if p := v.all[pod.Spec.NodeName]; p != nil && !hasEnded(pod) {
			p.add(pod)
		}
	}
	m.noteUnregistered(v, owner, seen)
	for i := range w.Groups {
		if template := m.templateFor(v, &w.Groups[i]); template != nil {
			v.templates[w.Groups[i].Name] = template
		}
	}
	return v
}

func (m *Memory) noteUnregistered(v *view, owner map[string]*Group, seen map[string]bool) {
	for id := range owner {
		if _, known := m.unregistered[id]; !seen[id] && !known {
			m.unregistered[id] = v.Now
		}
	}
	for id := range m.unregistered {
		if owner[id] == nil || seen[id] {
			delete(m.unregistered, id)
		}
	}
}

// templateFor is a node that the group would bring, with the DaemonSets' pods that it would get: as a node that it has, the last one that it
// had, or its tags.
func (m *Memory) templateFor(v *view, group *Group) *place {
	tagged, err := group.template()
	for _, p := range v.ready {
		old := !v.Now.Before(p.node.CreationTimestamp.Add(stableAge))
		if owner := v.groupOf[p.node.Name]; owner != nil && owner.Name == group.Name && old {
			m.templates[group.Name] = kept{templateOf(p.node, tagged), v.Now.Add(v.settings.TemplateCache)}
			break
		}
	}
	node := tagged
	if found, known := m.templates[group.Name]; known && v.Now.Before(found.until) {
		node = found.node
	}
	if node == nil {
		v.skipped = append(v.skipped, err.Error())
		return nil
	}
	p := newPlace(node)
	for _, daemon := range v.Daemons {
		if pod := daemonPod(daemon); p.refusal(pod) == "" {
			p.add(pod)
		}
	}
	return p
}

// daemonPod is a pod as the DaemonSet's controller makes it.
func daemonPod(daemon *appsv1.DaemonSet) *v1.Pod {
	template := daemon.Spec.Template.DeepCopy()
	pod := &v1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	for _, key := range []string{v1.TaintNodeNotReady, v1.TaintNodeUnreachable, v1.TaintNodeDiskPressure, v1.TaintNodeMemoryPressure, v1.TaintNodePIDPressure, v1.TaintNodeUnschedulable} {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, v1.Toleration{Key: key, Operator: v1.TolerationOpExists})
	}
	return pod
}

func (m *Memory) endUnregistered(v *view) []Ending {
	var endings []Ending
	for i := range v.Groups {
		group := &v.Groups[i]
		spare := group.Desired - group.Min
		for _, instance := range group.Instances {
			since, waits := m.unregistered[instance.ID]
			if waits && spare > 0 && v.Now.Sub(since) > v.settings.ProvisionTime {
				endings = append(endings, Ending{group.Name, instance.ID})
				spare--
			}
		}
	}
	return endings
}

func (m *Memory) giveUp(v *view) []Lowering {
	var lowerings []Lowering
	for i := range v.Groups {
		group := &v.Groups[i]
		failure, failed := v.Failures[group.Name]
		to := max(len(group.Instances), group.Min)
		if failed && group.Desired > to && !failure.At.Before(m.raisedAt[group.Name].Truncate(time.Second)) {
			lowerings = append(lowerings, Lowering{group.Name, failure.Message, group.Desired, to})
		}
	}
	return lowerings
}
