package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	kubeerrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	testing_ "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
)

// cloudDouble stands for AWS: it does what it is told and keeps a list, or says no.
type cloudDouble struct {
	mutex  sync.Mutex
	done   []string
	groups []Group
	err    error
	hangs  bool
}

func (c *cloudDouble) call(ctx context.Context, what string) error {
	c.mutex.Lock()
	c.done = append(c.done, what)
	c.mutex.Unlock()
	if c.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.err
}

func (c *cloudDouble) read(context.Context, []Tag, map[string]time.Time) ([]Group, map[string]Failure, error) {
	return c.groups, nil, nil
}

func (c *cloudDouble) setDesired(ctx context.Context, group string, size int) error {
	return c.call(ctx, fmt.Sprintf("%s to %d", group, size))
}

func (c *cloudDouble) end(ctx context.Context, instance string) error {
	return c.call(ctx, "end "+instance)
}

// site is an autoscaler before an API server's double that has these objects.
type site struct {
	*Autoscaler
	cloud  *cloudDouble
	api    *fake.Clientset
	events *record.FakeRecorder
	// The grace of each eviction that was let through, by pod.
	evicted map[string]int64
	// refusal is asked before each eviction.
	refusal func(pod string) error
}

func newSite(t *testing.T, objects ...runtime.Object) *site {
	t.Helper()
	s := &site{cloud: &cloudDouble{}, api: fake.NewClientset(objects...), events: record.NewFakeRecorder(20), evicted: map[string]int64{}}
	s.Autoscaler = &Autoscaler{settings: settings(t), cloud: s.cloud, cluster: &Cluster{s.api, "kube-system"}, memory: newMemory(), events: s.events}
	s.api.PrependReactor("create", "pods", func(action testing_.Action) (bool, runtime.Object, error) {
		eviction, isOne := action.(testing_.CreateAction).GetObject().(*policyv1.Eviction)
		if !isOne {
			return false, nil, nil
		}
		if s.refusal != nil {
			if err := s.refusal(eviction.Name); err != nil {
				return true, nil, err
			}
		}
		s.evicted[eviction.Name] = *eviction.DeleteOptions.GracePeriodSeconds
		return true, nil, s.api.Tracker().Delete(v1.SchemeGroupVersion.WithResource("pods"), eviction.Namespace, eviction.Name)
	})
	return s
}

func (s *site) node(t *testing.T, name string) *v1.Node {
	t.Helper()
	found, err := s.api.CoreV1().Nodes().Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (s *site) isMarked(t *testing.T, name string) bool {
	t.Helper()
	return len(without(s.node(t, name).Spec.Taints)) < len(s.node(t, name).Spec.Taints)
}

func withGrace(seconds int64) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds }
}

var tooMany = kubeerrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)

func TestANodeThatGotAPodInTheMeantimeStays(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1")
	there := cloudNode(group, "i-1")
	late := job("late", list(boards+"=1"), on("i-1"))
	protected := job("late", list("cpu=1"), on("i-1"), saying(safeToEvict, "false"))
	known := job("known", list("cpu=1"), on("i-1"))
	ended := job("ended", list("cpu=1"), on("i-1"), func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded })
	cases := []struct {
		name  string
		known []*v1.Pod
		now   []*v1.Pod
		want  string
	}{
		{"nothing came", nil, nil, ""},
		{"what came has ended", nil, []*v1.Pod{ended}, ""},
		{"what came runs elsewhere", nil, []*v1.Pod{job("other", list("cpu=1"), on("i-2"))}, ""},
		{"a DaemonSet's pod came", nil, []*v1.Pod{job("daemon", list("cpu=1"), on("i-1"), owned("DaemonSet"))}, ""},
		{"a job came to an idle node", nil, []*v1.Pod{late}, "default/late has come"},
		{"a job came to a node that was to be drained", []*v1.Pod{known}, []*v1.Pod{known, late}, ""},
		{"one that may not be evicted came to it", []*v1.Pod{known}, []*v1.Pod{known, protected}, "default/late: annotation " + safeToEvict + " is false"},
		{"what was there has gone by itself", []*v1.Pod{known}, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, there.DeepCopy())
				for _, pod := range c.now {
					if err := s.api.Tracker().Add(pod.DeepCopy()); err != nil {
						t.Fatal(err)
					}
				}
				s.remove(t.Context(), Removal{group.Name, "i-1", there, c.known})
				said := <-s.events.Events
				if c.want == "" {
					if !slices.Equal(s.cloud.done, []string{"end i-1"}) || !strings.Contains(said, "node removed") {
						t.Errorf("did %v, said %s", s.cloud.done, said)
					}
					return
				}
				if len(s.cloud.done) != 0 || len(s.evicted) != 0 || s.isMarked(t, "i-1") || !strings.Contains(said, c.want) {
					t.Errorf("did %v, evicted %v, said %s", s.cloud.done, s.evicted, said)
				}
			})
		})
	}
}

func TestEachPodHasItsOwnTimeToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := []*v1.Pod{job("short", list(), on("i-1"), withGrace(5)), job("long", list(), on("i-1"), withGrace(3600)), job("own", list(), on("i-1"), withGrace(60)), job("none", list(), on("i-1"))}
		s := newSite(t)
		for _, pod := range pods {
			if err := s.api.Tracker().Add(pod); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.cluster.drain(t.Context(), pods, 600); err != nil {
			t.Fatal(err)
		}
		if want := map[string]int64{"short": 5, "long": 600, "own": 60, "none": 30}; !maps.Equal(s.evicted, want) {
			t.Errorf("found %v, want %v", s.evicted, want)
		}
	})
}

func TestAnEvictionThatABudgetRefusesIsTriedAgainAndHoldsNobodyUp(t *testing.T) {
	cases := []struct {
		name    string
		refused int
		want    string
		evicted []string
	}{
		{"twice", 2, "", []string{"after", "guarded"}},
		{"for ever", 1000, "pod default/guarded: Cannot evict pod", []string{"after"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pods := []*v1.Pod{job("guarded", list(), on("i-1")), job("after", list(), on("i-1"))}
				s := newSite(t, pods[0], pods[1])
				tries := 0
				s.refusal = func(pod string) error {
					if pod == "guarded" {
						if tries++; tries <= c.refused {
							return tooMany
						}
					}
					return nil
				}
				begun := time.Now()
				err := s.cluster.drain(t.Context(), pods, 600)
				if took := time.Since(begun); took > longestEviction {
					t.Errorf("took %s", took)
				}
				if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
					t.Errorf("found %v, want %q", err, c.want)
				}
				if got := slices.Sorted(maps.Keys(s.evicted)); !slices.Equal(got, c.evicted) {
					t.Errorf("evicted %v, want %v", got, c.evicted)
				}
			})
		})
	}
}

func TestAPodThatWasMadeAnewUnderItsNameIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, made := job("a", list(), on("i-1")), job("a", list(), on("i-2"))
		old.UID, made.UID = types.UID("1"), types.UID("2")
		s := newSite(t, made)
		s.refusal = func(string) error {
			return kubeerrors.NewConflict(v1.Resource("pods"), "a", errors.New("the UID in the precondition (1) does not match the UID in record (2)"))
		}
		if err := s.cluster.drain(t.Context(), []*v1.Pod{old}, 600); err != nil || len(s.evicted) != 0 {
			t.Errorf("found %v, evicted %v", err, s.evicted)
		}
	})
}

func TestAGroupWaitsOnceForAllItsInstancesThatNeverBecameNodes(t *testing.T) {
	s := newSite(t)
	d := Decision{End: []Ending{{"f2", "i-1"}, {"f2", "i-2"}, {"other", "i-3"}}}
	if err := s.do(t.Context(), t.Context(), World{Now: noon}, d); err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"f2", "other"} {
		if got := s.memory.backoffs[group].length; got != s.settings.FirstBackoff {
			t.Errorf("%s waits %s, want %s", group, got, s.settings.FirstBackoff)
		}
	}
	if want := []string{"end i-1", "end i-2", "end i-3"}; !slices.Equal(s.cloud.done, want) {
		t.Errorf("did %v, want %v", s.cloud.done, want)
	}
}

func TestACallThatAWSRefusesMakesNoGroupWaitAndIsMadeAgain(t *testing.T) {
	for _, d := range []Decision{{End: []Ending{{"f2", "i-1"}, {"f2", "i-2"}}}, {Lower: []Lowering{{"f2", "no capacity", 2, 0}}}} {
		s := newSite(t)
		s.cloud.err = errors.New("throttled")
		if err := s.do(t.Context(), t.Context(), World{Now: noon}, d); err == nil || !strings.Contains(err.Error(), "throttled") {
			t.Errorf("found %v", err)
		}
		if len(s.memory.backoffs) != 0 || len(s.cloud.done) != len(d.End)+len(d.Lower) {
			t.Errorf("waits %v, did %v", s.memory.backoffs, s.cloud.done)
		}
	}
}

// The kubelet waits for 30 s; what takes longer than that would be killed in the middle, with its mark left on the node.
func TestARemovalThatIsUnderWayWhenTheProcessIsToldToEndIsFinishedOrTakenBack(t *testing.T) {
	group := pool("f2-6xlarge", 1, "i-1")
	stuck := job("stuck", list("cpu=1"), on("i-1"))
	cases := []struct {
		name   string
		pods   []*v1.Pod
		refuse time.Duration
		hangs  bool
		goes   bool
	}{
		{name: "it takes a while", pods: []*v1.Pod{stuck}, refuse: 15 * time.Second, goes: true},
		{name: "it takes too long", pods: []*v1.Pod{stuck}, refuse: time.Hour},
		{name: "AWS does not answer", hangs: true},
	}
	for _, leads := range []bool{false, true} {
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s, leads %t", c.name, leads), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					there := cloudNode(group, "i-1")
					there.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Hour))
					s := newSite(t, there, onPrem())
					for _, pod := range c.pods {
						if err := s.api.Tracker().Add(pod.DeepCopy()); err != nil {
							t.Fatal(err)
						}
					}
					s.settings.UnneededTime, s.settings.ScanInterval = 5*time.Second, time.Second
					s.cloud.groups, s.cloud.hangs = []Group{group}, c.hangs
					ctx, stop := context.WithCancel(t.Context())
					begun := time.Now()
					s.refusal = func(string) error {
						if time.Since(begun) < 10*time.Second+c.refuse {
							return tooMany
						}
						return nil
					}
					run := s.loop
					if leads {
						run = func(ctx context.Context) error { return s.lead(ctx, stop) }
					}
					time.AfterFunc(12*time.Second, stop)
					if err := run(ctx); err != nil {
						t.Error(err)
					}
					if took := time.Since(begun) - 12*time.Second; took > 28*time.Second {
						t.Errorf("ended %s after it was told to", took)
					}
					if !slices.Contains(s.cloud.done, "end i-1") && (c.goes || c.hangs) {
						t.Errorf("did %v", s.cloud.done)
					}
					if s.isMarked(t, "i-1") == !c.goes {
						t.Errorf("marked %t, gone %t", s.isMarked(t, "i-1"), c.goes)
					}
				})
			})
		}
	}
}

func TestALiveNodeWithoutLabelsStandsForItsGroup(t *testing.T) {
	bare := node("i-1", "aws:///us-east-1a/i-1", list("cpu=20"), func(n *v1.Node) { n.Labels = nil })
	if got := templateOf(bare, nil).Labels[v1.LabelHostname]; got != "i-1-template" {
		t.Errorf("found %q", got)
	}
}
