package main

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// place is a node with what runs on it.
type place struct {
	node *v1.Node
	pods []*v1.Pod
	used v1.ResourceList
}

func newPlace(node *v1.Node, pods ...*v1.Pod) *place {
	p := &place{node: node, used: v1.ResourceList{}}
	for _, pod := range pods {
		p.add(pod)
	}
	return p
}

// requests are what the scheduler counts for a pod, the pod itself being one of pods.
func requests(pod *v1.Pod) v1.ResourceList {
	found := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	one := found[v1.ResourcePods]
	one.Set(1)
	found[v1.ResourcePods] = one
	return found
}

func (p *place) add(pod *v1.Pod) {
	p.pods = append(p.pods, pod)
	for name, amount := range requests(pod) {
		sum := p.used[name]
		sum.Add(amount)
		p.used[name] = sum
	}
}

// refusal says why the scheduler would not put the pod here, in its words; "" if it would. Looks at resources, taints, selector and required node
// affinity; not at other pods' affinities, topology spread, ports and volumes.
func (p *place) refusal(pod *v1.Pod) string {
	if p.node.Spec.Unschedulable && !tolerated(pod, []v1.Taint{{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}}) {
		return "node(s) were unschedulable"
	}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(p.node); err != nil || !match {
		return "node(s) didn't match Pod's node affinity/selector"
	}
	if !tolerated(pod, p.node.Spec.Taints) {
		return "node(s) had untolerated taint(s)"
	}
	for name, wanted := range requests(pod) {
		if wanted.IsZero() {
			continue
		}
		free := p.node.Status.Allocatable[name]
		free.Sub(p.used[name])
		if free.Cmp(wanted) < 0 {
			return fmt.Sprintf("Insufficient %s", name)
		}
	}
	return ""
}

func tolerated(pod *v1.Pod, taints []v1.Taint) bool {
	_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), taints, pod.Spec.Tolerations, func(taint *v1.Taint) bool {
		return taint.Effect == v1.TaintEffectNoSchedule || taint.Effect == v1.TaintEffectNoExecute
	}, false)
	return !untolerated
}

// put places the pod on the first that takes it.
func put(pod *v1.Pod, places []*place) bool {
	for _, p := range places {
		if p.refusal(pod) == "" {
			p.add(pod)
			return true
		}
	}
	return false
}

func controller(pod *v1.Pod) *metav1.OwnerReference { return metav1.GetControllerOf(pod) }

func isDaemon(pod *v1.Pod) bool {
	owner := controller(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

func isMirror(pod *v1.Pod) bool { return pod.Annotations[v1.MirrorPodAnnotationKey] != "" }

func hasEnded(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

// share of the node that its pods ask for: CPU or memory, whichever is more. A board that is in use is not seen, as with upstream.
func (p *place) utilization() float64 {
	largest := 0.0
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		used, all := p.used[name], p.node.Status.Allocatable[name]
		if all.IsZero() {
			continue
		}
		largest = max(largest, used.AsApproximateFloat64()/all.AsApproximateFloat64())
	}
	return largest
}
