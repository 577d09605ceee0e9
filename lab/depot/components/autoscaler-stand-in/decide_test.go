package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const (
	boards = "xilinx/aws-vu47p-f2"
	exact  = "inaccel.com/xgboost.exact"
)

// --- a site: one on-prem worker with a U250, two pools

func settings(t *testing.T, more ...string) Settings {
	t.Helper()
	s, err := parseSettings(append([]string{"--cloud-provider=aws", "--node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled"}, more...), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func list(words ...string) v1.ResourceList {
	found := v1.ResourceList{"pods": resource.MustParse("110")}
	for _, word := range words {
		name, amount, _ := strings.Cut(word, "=")
		found[v1.ResourceName(name)] = resource.MustParse(amount)
	}
	return found
}

// A group of one or two boards; instances that it has and wants.
func pool(name string, count int, instances ...string) Group {
	group := Group{
		Name: name, Max: 3, Desired: len(instances), Region: "us-east-1", Zones: []string{"us-east-1a", "us-east-1b"}, InstanceType: "f2",
		Tags: map[string]string{
			resourceTag + "cpu": fmt.Sprint(20 * count), resourceTag + "memory": fmt.Sprintf("%dGi", 200*count), resourceTag + boards: fmt.Sprint(count),
			resourceTag + exact: fmt.Sprint(2 * count), labelTag + "fpga.hybrid/pool": name, taintTag + "fpga.hybrid/fpga": ":NoSchedule",
		},
	}
	for _, id := range instances {
		group.Instances = append(group.Instances, Instance{id, "us-east-1a"})
	}
	return group
}

type change func(*v1.Node)

func node(name, provider string, resources v1.ResourceList, changes ...change) *v1.Node {
	created := metav1.NewTime(noon.Add(-time.Hour))
	made := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: created, Labels: map[string]string{}},
		Spec:       v1.NodeSpec{ProviderID: provider},
		Status: v1.NodeStatus{Allocatable: resources, Conditions: []v1.NodeCondition{
			{Type: v1.NodeReady, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(created.Add(10 * time.Second))},
		}},
	}
	for _, how := range changes {
		how(made)
	}
	return made
}

func onPrem() *v1.Node {
	return node("worker1", "fpga-hybrid:///InAccel/worker1", list("cpu=8", "memory=16Gi", exact+"=4", "xilinx/u280=1"))
}

func cloudNode(group Group, id string, changes ...change) *v1.Node {
	template, err := group.template()
	if err != nil {
		panic(err)
	}
	made := node(id, "aws:///us-east-1a/"+id, maps.Clone(template.Status.Allocatable), changes...)
	made.Labels, made.Spec.Taints = template.Labels, append(template.Spec.Taints, made.Spec.Taints...)
	return made
}

func tainted(key string) change {
	return func(n *v1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: key, Effect: v1.TaintEffectNoSchedule})
	}
}

func born(ago time.Duration) change {
	return func(n *v1.Node) {
		n.CreationTimestamp = metav1.NewTime(noon.Add(-ago))
		n.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-ago + time.Second))
	}
}

// Lost after it had been well.
func cutOff(n *v1.Node) {
	n.Status.Conditions[0].Status = v1.ConditionUnknown
	n.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-time.Minute))
}

func job(name string, resources v1.ResourceList, changes ...func(*v1.Pod)) *v1.Pod {
	owner := true
	delete(resources, "pods")
	made := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", OwnerReferences: []metav1.OwnerReference{{Kind: "Job", Name: name, Controller: &owner}}},
		Spec: v1.PodSpec{
			Containers:  []v1.Container{{Name: "main", Resources: v1.ResourceRequirements{Requests: resources, Limits: resources}}},
			Tolerations: []v1.Toleration{{Key: "fpga.hybrid/fpga", Operator: v1.TolerationOpExists}},
		},
		Status: v1.PodStatus{Phase: v1.PodPending, Conditions: []v1.PodCondition{
			{Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: v1.PodReasonUnschedulable},
		}},
	}
	for _, how := range changes {
		how(made)
	}
	return made
}

func on(name string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.NodeName, p.Status.Phase, p.Status.Conditions = name, v1.PodRunning, nil
	}
}

func saying(annotation, value string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Annotations = map[string]string{annotation: value} }
}

func owned(kind string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.OwnerReferences[0].Kind = kind }
}

func bare(p *v1.Pod) { p.OwnerReferences = nil }

func in(namespace string) func(*v1.Pod) { return func(p *v1.Pod) { p.Namespace = namespace } }

func mounting(source v1.VolumeSource) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Volumes = []v1.Volume{{Name: "x", VolumeSource: source}} }
}

func raised(r *Raise) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s %d->%d", r.Group, r.From, r.To)
}

// --- up

func TestWhichGroupIsRaised(t *testing.T) {
	small, large := pool("f2-6xlarge", 1), pool("f2-12xlarge", 2)
	running := job("first", list(exact+"=4"), on("worker1"))
	full := func(g Group) Group {
		g.Desired, g.Max = 1, 1
		g.Instances = []Instance{{"i-1", "us-east-1a"}}
		return g
	}
	cases := []struct {
		name  string
		pods  []*v1.Pod
		pools []Group
		nodes []*v1.Node
		flags []string
		want  string
	}{
		{name: "nothing waits", pods: []*v1.Pod{running}},
		{name: "a copy more than one board has starts two boards", pods: []*v1.Pod{running, job("second", list(exact+"=4"))}, want: "f2-12xlarge 0->1"},
		{name: "what fits one board does not start two", pods: []*v1.Pod{running, job("second", list(exact+"=2", "cpu=1"))}, want: "f2-6xlarge 0->1"},
		// Waste is counted in CPU and memory only: upstream would throw dice.
		{name: "unless it asks for no CPU and no memory, when all groups are alike", pods: []*v1.Pod{running, job("second", list(exact+"=2"))}, want: "f2-12xlarge 0->1"},
		{name: "what a free board takes starts nothing", pods: []*v1.Pod{job("second", list(exact+"=4"))}},
		{name: "room is given once", pods: []*v1.Pod{job("a", list(exact+"=4")), job("b", list(exact+"=4"))}, want: "f2-12xlarge 0->1"},
		{name: "three at once", pods: []*v1.Pod{running, job("a", list(exact+"=4")), job("b", list(exact+"=4")), job("c", list(exact+"=4"))}, want: "f2-12xlarge 0->3"},
		{name: "no more than the group may have", pods: []*v1.Pod{running, job("a", list(exact+"=4")), job("b", list(exact+"=4")), job("c", list(exact+"=4")), job("d", list(exact+"=4"))}, want: "f2-12xlarge 0->3"},
		{name: "pods share a node", pods: []*v1.Pod{running, job("a", list(exact+"=2", "cpu=30")), job("b", list(exact+"=2"))}, want: "f2-12xlarge 0->1"},
		{name: "a pod without the toleration starts nothing", pods: []*v1.Pod{job("cpu", list("cpu=30"), func(p *v1.Pod) { p.Spec.Tolerations = nil })}},
		{name: "a pod for another place starts nothing", pods: []*v1.Pod{job("a", list(boards+"=1"), func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"room": "1"} })}},
		{name: "a pod for a pool by its label", pods: []*v1.Pod{job("a", list(boards+"=1"), func(p *v1.Pod) {
			p.Spec.NodeSelector = map[string]string{"fpga.hybrid/pool": "f2-12xlarge", v1.LabelTopologyZone: "us-east-1a", v1.LabelArchStable: "amd64"}
		})}, want: "f2-12xlarge 0->1"},
		{name: "what nobody has starts nothing", pods: []*v1.Pod{job("a", list("xilinx/u50=1"))}},
		{name: "a full group is passed over", pods: []*v1.Pod{running, job("a", list(boards+"=1"))}, pools: []Group{full(small), large},
			nodes: []*v1.Node{cloudNode(small, "i-1"), onPrem()}, want: ""},
		{name: "and another taken", pods: []*v1.Pod{running, job("x", list(boards+"=1"), on("i-1")), job("a", list(boards+"=1"))}, pools: []Group{full(small), large},
			nodes: []*v1.Node{cloudNode(small, "i-1"), onPrem()}, want: "f2-12xlarge 0->1"},
		{name: "the cluster's size is a limit", pods: []*v1.Pod{running, job("a", list(exact+"=4")), job("b", list(exact+"=4"))}, flags: []string{"--max-nodes-total=2"}, want: "f2-12xlarge 0->1"},
		{name: "and counts on-prem nodes", pods: []*v1.Pod{running, job("a", list(exact+"=4"))}, flags: []string{"--max-nodes-total=1"}},
		{name: "a DaemonSet's pod starts nothing", pods: []*v1.Pod{job("a", list(boards+"=1"), owned("DaemonSet"))}},
		{name: "a pod that goes starts nothing", pods: []*v1.Pod{job("a", list(boards+"=1"), func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon} })}},
		{name: "a pod that nobody has looked at starts nothing", pods: []*v1.Pod{job("a", list(boards+"=1"), func(p *v1.Pod) { p.Status.Conditions = nil })}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := World{Now: noon, Nodes: c.nodes, Pods: c.pods, Groups: c.pools}
			if w.Groups == nil {
				w.Groups = []Group{small, large}
			}
			if w.Nodes == nil {
				w.Nodes = []*v1.Node{onPrem()}
			}
			d := newMemory().decide(w, settings(t, c.flags...))
			if got := raised(d.Raise); got != c.want {
				t.Errorf("raised %q, want %q; idle %v", got, c.want, d.Idle)
			}
		})
	}
}

func TestAPodThatStartsNothingIsToldWhy(t *testing.T) {
	full := pool("f2-12xlarge", 2)
	full.Max = 0
	pod := job("a", list(exact+"=4"))
	d := newMemory().decide(World{Now: noon, Pods: []*v1.Pod{pod}, Groups: []Group{pool("f2-6xlarge", 1), full}}, settings(t))
	if want := "1 Insufficient " + exact + ", 1 max node group size reached"; d.Idle[pod] != want {
		t.Errorf("found %q, want %q", d.Idle[pod], want)
	}
}

func TestAnInstanceThatIsOnItsWayIsWaitedFor(t *testing.T) {
	group := pool("f2-12xlarge", 2, "i-1")
	late := func(n *v1.Node) { n.Status.Allocatable[exact] = resource.MustParse("0") }
	cases := []struct {
		name  string
		nodes []*v1.Node
		want  string
	}{
		{"it boots", nil, ""},
		{"its node is not ready yet", []*v1.Node{cloudNode(group, "i-1", born(20*time.Second), func(n *v1.Node) { n.Status.Conditions[0].Status = v1.ConditionFalse })}, ""},
		{"it is ready, its boards are not, and a startup taint says so", []*v1.Node{cloudNode(group, "i-1", born(20*time.Second), tainted(startupTaint+"fpga"), late)}, ""},
		// Upstream's failure, which the startup taint is there to prevent.
		{"it is ready, its boards are not, and nothing says so: a second one is bought", []*v1.Node{cloudNode(group, "i-1", born(20*time.Second), late)}, "f2-12xlarge 1->2"},
		{"it is there", []*v1.Node{cloudNode(group, "i-1", born(20*time.Second))}, ""},
		{"it is about to go", []*v1.Node{cloudNode(group, "i-1", tainted(deletingTaint))}, "f2-12xlarge 1->2"},
		{"it is cut off", []*v1.Node{cloudNode(group, "i-1", cutOff)}, "f2-12xlarge 1->2"},
		{"its startup taint stays for longer than anything takes", []*v1.Node{cloudNode(group, "i-1", born(16*time.Minute), tainted(startupTaint+"fpga"))}, "f2-12xlarge 1->2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newMemory().decide(World{Now: noon, Nodes: c.nodes, Pods: []*v1.Pod{job("a", list(exact+"=4"))}, Groups: []Group{group}}, settings(t))
			if got := raised(d.Raise); got != c.want {
				t.Errorf("raised %q, want %q", got, c.want)
			}
		})
	}
}

func TestALiveNodeStandsForItsGroupUntilItIsForgotten(t *testing.T) {
	group := pool("f2-12xlarge", 2, "i-1")
	without := cloudNode(group, "i-1", func(n *v1.Node) { n.Status.Allocatable[exact] = resource.MustParse("0") })
	pod := job("a", list(exact+"=4"))
	m, s := newMemory(), settings(t, "--node-info-cache-expire-time=1m")
	look := func(after time.Duration, g Group, nodes ...*v1.Node) string {
		return raised(m.decide(World{Now: noon.Add(after), Nodes: nodes, Pods: []*v1.Pod{pod}, Groups: []Group{g}}, s).Raise)
	}
	if got := look(0, group, without); got != "" {
		t.Errorf("a node without boards was believed to bring some: %s", got)
	}
	empty := pool("f2-12xlarge", 2)
	if got := look(30*time.Second, empty); got != "" {
		t.Errorf("it was forgotten too early: %s", got)
	}
	if got := look(2*time.Minute, empty); got != "f2-12xlarge 0->1" {
		t.Errorf("the tags were not believed again: %q", got)
	}
}

func TestDaemonSetsTakeTheirPartOfANewNode(t *testing.T) {
	daemon := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: v1.PodTemplateSpec{Spec: job("d", list("cpu=1")).Spec}}}
	w := World{Now: noon, Pods: []*v1.Pod{job("a", list(boards+"=1", "cpu=20"))}, Groups: []Group{pool("f2-6xlarge", 1)}, Daemons: []*appsv1.DaemonSet{daemon}}
	if got := raised(newMemory().decide(w, settings(t)).Raise); got != "" {
		t.Errorf("raised %s, where %s would not fit", got, "20 CPUs beside a DaemonSet")
	}
	daemon.Spec.Template.Spec.NodeSelector = map[string]string{"other": "1"}
	if got := raised(newMemory().decide(w, settings(t)).Raise); got != "f2-6xlarge 0->1" {
		t.Errorf("raised %q", got)
	}
}

func TestAGroupThatSaysNothingOfItselfIsSkippedUnlessItsTypeDoes(t *testing.T) {
	group := pool("f2-6xlarge", 1)
	delete(group.Tags, resourceTag+"cpu")
	w := World{Now: noon, Pods: []*v1.Pod{job("a", list(boards+"=1", "cpu=24"))}, Groups: []Group{group}}
	if d := newMemory().decide(w, settings(t)); d.Raise != nil || len(d.Skipped) != 1 {
		t.Errorf("raised %q, skipped %v", raised(d.Raise), d.Skipped)
	}
	w.Groups[0].CPU, w.Groups[0].Memory = 24, 256<<30
	if got := raised(newMemory().decide(w, settings(t)).Raise); got != "f2-6xlarge 0->1" {
		t.Errorf("raised %q", got)
	}
}

func TestWhatAWSCannotLaunchIsGivenUpAndAskedForAgainLater(t *testing.T) {
	group := pool("f2-12xlarge", 2)
	pod := job("a", list(exact+"=4"))
	m, s := newMemory(), settings(t, "--initial-node-group-backoff-duration=1m", "--max-node-group-backoff-duration=90s")
	look := func(after time.Duration, desired int, failures map[string]Failure) Decision {
		group.Desired = desired
		d := m.decide(World{Now: noon.Add(after), Pods: []*v1.Pod{pod}, Groups: []Group{group}, Failures: failures}, s)
		if d.Raise != nil {
			m.raised(group.Name, noon.Add(after))
		}
		for _, one := range d.Lower {
			m.fail(one.Group, noon.Add(after), s)
		}
		return d
	}
	failed := func(after time.Duration) map[string]Failure {
		return map[string]Failure{group.Name: {noon.Add(after), "no capacity"}}
	}
	if d := look(0, 0, nil); raised(d.Raise) != "f2-12xlarge 0->1" {
		t.Fatalf("raised %q", raised(d.Raise))
	}
	if d := look(time.Second, 1, failed(-time.Minute)); len(d.Lower) != 0 {
		t.Errorf("a failure from before was taken for this one's")
	}
	if d := look(5*time.Second, 1, failed(time.Second)); len(d.Lower) != 1 || d.Lower[0] != (Lowering{group.Name, "no capacity", 1, 0}) {
		t.Errorf("lowered %v", d.Lower)
	}
	d := look(30*time.Second, 0, nil)
	if d.Raise != nil || d.Idle[pod] != "1 in backoff after failed scale-up" {
		t.Errorf("raised %q, idle %v", raised(d.Raise), d.Idle)
	}
	if d := look(66*time.Second, 0, nil); d.Raise == nil {
		t.Errorf("it was not asked for again: %v", d.Idle)
	}
	look(70*time.Second, 1, failed(67*time.Second))
	if m.backoffs[group.Name].length != 90*time.Second {
		t.Errorf("the second time waits %s", m.backoffs[group.Name].length)
	}
}

func TestAnInstanceThatNeverBecomesANodeIsEndedButNotBelowTheLeastSize(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1", "i-2")
	group.Min = 1
	m, s := newMemory(), settings(t, "--max-node-provision-time=15m")
	look := func(after time.Duration, nodes ...*v1.Node) []Ending {
		return m.decide(World{Now: noon.Add(after), Nodes: nodes, Groups: []Group{group}}, s).End
	}
	if got := look(0); len(got) != 0 {
		t.Errorf("ended %v at once", got)
	}
	if got := look(15 * time.Minute); len(got) != 0 {
		t.Errorf("ended %v too early", got)
	}
	if got := look(16*time.Minute, cloudNode(group, "i-1")); !slices.Equal(got, []Ending{{"f2-6xlarge", "i-2"}}) {
		t.Errorf("ended %v, where i-1 is a node", got)
	}
	if got := look(16 * time.Minute); len(got) != 1 {
		t.Errorf("ended %v, one of which is the least size", got)
	}
}

// --- down

func TestWhatKeepsANode(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1")
	free, large := onPrem(), func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests = list("cpu=11") }
	here := func(changes ...func(*v1.Pod)) []*v1.Pod {
		return []*v1.Pod{job("a", list("cpu=1"), append([]func(*v1.Pod){on("i-1")}, changes...)...)}
	}
	budget := func(allowed int32) []*policyv1.PodDisruptionBudget {
		return []*policyv1.PodDisruptionBudget{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{}},
			Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed},
		}}
	}
	cases := []struct {
		name    string
		pods    []*v1.Pod
		changes []change
		budgets []*policyv1.PodDisruptionBudget
		min     int
		flags   []string
		goes    bool
	}{
		{name: "nothing", goes: true},
		{name: "a job that could go elsewhere does not", pods: here(), goes: true},
		// Upstream's failure: the board that the job uses is not counted, and an on-prem one is free.
		{name: "nor does a job on a board, where another is free", pods: []*v1.Pod{job("a", list(exact+"=2"), on("i-1"))}, goes: true},
		{name: "a job on a board that says so", pods: []*v1.Pod{job("a", list(exact+"=2"), on("i-1"), saying(safeToEvict, "false"))}},
		{name: "a job on a board, where none is free", pods: []*v1.Pod{job("a", list(boards+"=1"), on("i-1"))}},
		{name: "much CPU", pods: here(large)},
		{name: "a pod that nobody would make again", pods: here(bare)},
		{name: "unless it says that it may go", pods: here(bare, saying(safeToEvict, "true")), goes: true},
		{name: "a pod that has ended does not", pods: here(bare, func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded }), goes: true},
		{name: "a DaemonSet's pod does not", pods: here(owned("DaemonSet")), goes: true},
		{name: "a static pod does not", pods: here(bare, saying(v1.MirrorPodAnnotationKey, "x")), goes: true},
		{name: "a pod of kube-system", pods: here(in("kube-system"))},
		{name: "unless they are let go", pods: here(in("kube-system")), flags: []string{"--skip-nodes-with-system-pods=false"}, goes: true},
		{name: "local storage", pods: here(mounting(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}))},
		{name: "memory is none", pods: here(mounting(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}})), goes: true},
		{name: "a budget", pods: here(), budgets: budget(0)},
		{name: "a budget, though the pod may go", pods: here(saying(safeToEvict, "true")), budgets: budget(0)},
		{name: "a budget that allows it does not", pods: here(), budgets: budget(1), goes: true},
		{name: "its annotation", changes: []change{func(n *v1.Node) { n.Annotations = map[string]string{scaleDownDisabled: "true"} }}},
		{name: "the least size", min: 1},
		{name: "its group's own threshold", pods: here(large), changes: nil, flags: []string{"--scale-down-utilization-threshold=0.9"}},
		{name: "that it is on its way", changes: []change{born(5 * time.Minute), func(n *v1.Node) { n.Status.Conditions[0].Status = v1.ConditionFalse }}},
		{name: "that it is cut off, for a while", changes: []change{cutOff}},
		{name: "but not for ever", changes: []change{cutOff}, flags: []string{"--scale-down-unready-time=6m"}, goes: true},
		{name: "that scale-down is off", flags: []string{"--scale-down-enabled=false"}},
		{name: "that something was just added", flags: []string{"--scale-down-delay-after-add=1h"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			own := group
			own.Min = c.min
			m, s := newMemory(), settings(t, append([]string{"--scale-down-unneeded-time=5m", "--scale-down-delay-after-add=1m"}, c.flags...)...)
			m.lastAdd = noon.Add(-10 * time.Minute)
			look := func(after time.Duration) []Removal {
				w := World{Now: noon.Add(after), Nodes: []*v1.Node{free, cloudNode(own, "i-1", c.changes...)}, Pods: c.pods, Groups: []Group{own}, Budgets: c.budgets}
				return m.decide(w, s).Remove
			}
			for _, after := range []time.Duration{0, 4 * time.Minute} {
				if got := look(after); len(got) != 0 {
					t.Errorf("it goes after %s", after)
				}
			}
			if got := look(7 * time.Minute); (len(got) == 1) != c.goes {
				t.Errorf("found %v, want %v", got, c.goes)
			}
		})
	}
}

func TestANodeThatIsNeededForAMomentIsWaitedForAnew(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1")
	m, s := newMemory(), settings(t, "--scale-down-unneeded-time=1m", "--unremovable-node-recheck-timeout=10s")
	look := func(after time.Duration, pods ...*v1.Pod) int {
		return len(m.decide(World{Now: noon.Add(after), Nodes: []*v1.Node{cloudNode(group, "i-1")}, Pods: pods, Groups: []Group{group}}, s).Remove)
	}
	busy := job("a", list(boards+"=1"), on("i-1"))
	for _, step := range []struct {
		after time.Duration
		pods  []*v1.Pod
		want  int
	}{{0, nil, 0}, {50 * time.Second, []*v1.Pod{busy}, 0}, {55 * time.Second, nil, 0}, {65 * time.Second, nil, 0}, {120 * time.Second, nil, 0}, {125 * time.Second, nil, 1}} {
		if got := look(step.after, step.pods...); got != step.want {
			t.Errorf("after %s %d go, want %d", step.after, got, step.want)
		}
	}
}

func TestANodeThatCannotGoIsNotLookedAtForAWhile(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1")
	for timeout, want := range map[string]int{"5m": 0, "10s": 1} {
		m, s := newMemory(), settings(t, "--scale-down-unneeded-time=20s", "--unremovable-node-recheck-timeout="+timeout)
		look := func(after time.Duration, pods ...*v1.Pod) int {
			return len(m.decide(World{Now: noon.Add(after), Nodes: []*v1.Node{cloudNode(group, "i-1")}, Pods: pods, Groups: []Group{group}}, s).Remove)
		}
		look(0, job("a", list(boards+"=1"), on("i-1")))
		look(15 * time.Second)
		if got := look(40 * time.Second); got != want {
			t.Errorf("with %s %d go, want %d", timeout, got, want)
		}
	}
}

func TestIdleNodesGoTogetherAndBusyOnesOneByOne(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1", "i-2", "i-3", "i-4")
	nodes := []*v1.Node{onPrem()}
	for _, instance := range group.Instances {
		nodes = append(nodes, cloudNode(group, instance.ID))
	}
	pods := []*v1.Pod{job("a", list("cpu=1"), on("i-1")), job("b", list("cpu=1"), on("i-2"))}
	m, s := newMemory(), settings(t, "--scale-down-unneeded-time=1m")
	look := func(after time.Duration) string {
		var names []string
		for _, one := range m.decide(World{Now: noon.Add(after), Nodes: nodes, Pods: pods, Groups: []Group{group}}, s).Remove {
			names = append(names, fmt.Sprintf("%s with %d", one.Node.Name, len(one.Evict)))
		}
		return strings.Join(names, ", ")
	}
	look(0)
	if got := look(2 * time.Minute); got != "i-3 with 0, i-4 with 0, i-1 with 1" {
		t.Errorf("found %s", got)
	}
	m.leaving["i-1"], m.leaving["i-3"], m.leaving["i-4"] = true, true, true
	if got := look(2 * time.Minute); got != "" {
		t.Errorf("found %s while another is drained", got)
	}
}

func TestTheGroupsOwnTimesGoBeforeTheCommandLines(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1")
	group.Tags[optionTag+"scaledownunneededtime"] = "20s"
	group.Tags[optionTag+"scaledownutilizationthreshold"] = "0.01"
	m, s := newMemory(), settings(t)
	look := func(after time.Duration, pods ...*v1.Pod) int {
		return len(m.decide(World{Now: noon.Add(after), Nodes: []*v1.Node{onPrem(), cloudNode(group, "i-1")}, Pods: pods, Groups: []Group{group}}, s).Remove)
	}
	look(0)
	if got := look(30 * time.Second); got != 1 {
		t.Error("its time was not read")
	}
	if got := look(30*time.Second, job("a", list("cpu=1"), on("i-1"))); got != 0 {
		t.Error("its threshold was not read")
	}
}

// --- what it is told

func TestFlags(t *testing.T) {
	required := []string{"--cloud-provider=aws", "--node-group-auto-discovery=asg:tag=a,b=c"}
	s, err := parseSettings(append(required, "--scan-interval=5s", "--skip-nodes-with-system-pods=false", "--v=4", "--logtostderr=true", "--aws-use-static-instance-list=true"), os.Stderr)
	if err != nil || s.ScanInterval != 5*time.Second || s.SkipSystemPods || s.DelayAfterDelete != 5*time.Second {
		t.Errorf("found %+v, %v", s, err)
	}
	if !slices.Equal(s.Discovery, []Tag{{"a", ""}, {"b", "c"}}) {
		t.Errorf("found %v", s.Discovery)
	}
	for _, wrong := range [][]string{
		{"--scan-intervall=5s"}, {"--scan-interval=5"}, {"--expander=price"}, {"--cloud-provider=gce"}, {"positional"},
		{"--node-group-auto-discovery=asg:tag=d"}, {"--balance-similar-node-groups=true"},
	} {
		var said bytes.Buffer
		if _, err := parseSettings(append(slices.Clone(required), wrong...), &said); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
	for _, wrong := range []string{"asg:tag=", "mig:name=x", "asg:tag=a,,b", "asg:tag==x"} {
		if _, err := parseDiscovery([]string{wrong}); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestEndpoints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud.conf")
	section := func(region, url string) string {
		return fmt.Sprintf("[Global]\n[ServiceOverride \"ec2\"]\nService=\"ec2\"\nRegion=%q\nURL=%q\nSigningRegion=%q\nSigningMethod=\"v4\"\nSigningName=\"ec2\"\n", region, url, region)
	}
	cases := []struct{ text, want string }{
		{section("us-east-1", "http://10.0.0.1:5000/a#b"), "http://10.0.0.1:5000/a#b"},
		{section("eu-west-1", "http://10.0.0.1:5000"), ""},
		{section("us-east-1", "10.0.0.1"), "refused"},
		{"[ServiceOverride \"ec2\"]\nServce=ec2\n", "refused"},
	}
	for _, c := range cases {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := readEndpoints(file, "us-east-1")
		if got := found["ec2"]; (err != nil) != (c.want == "refused") || (err == nil && got != c.want) {
			t.Errorf("%s: found %q, %v", c.text, got, err)
		}
	}
	if found, err := readEndpoints("", "us-east-1"); err != nil || len(found) != 0 {
		t.Errorf("without a file: %v, %v", found, err)
	}
}
