package main

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group is an Auto Scaling group as AWS tells it. Instances that are on their way out are left out.
type Group struct {
	Name              string
	Min, Max, Desired int
	Region            string
	Zones             []string
	InstanceType      string
	// CPU (in cores) and Memory (in bytes) are the type's; 0 where the tags say them, so that nobody was asked.
	CPU, Memory int64
	Instances   []Instance
	Tags        map[string]string
}

// Instance is one of a group's.
type Instance struct{ ID, Zone string }

const (
	tagPrefix     = "k8s.io/cluster-autoscaler/node-template/"
	labelTag      = tagPrefix + "label/"
	taintTag      = tagPrefix + "taint/"
	resourceTag   = tagPrefix + "resources/"
	optionTag     = tagPrefix + "autoscaling-options/"
	startupTaint  = "startup-taint.cluster-autoscaler.kubernetes.io/"
	deletingTaint = "ToBeDeletedByClusterAutoscaler"
	// Upstream's for a type that says nothing itself.
	podsOfANode = 110
)

var taintValue = regexp.MustCompile(`^(.*):(NoSchedule|NoExecute|PreferNoSchedule)$`)

// knowsItself tells whether the group's tags say what a node has, so that nobody need ask what its type has.
func (g Group) knowsItself() bool {
	return g.Tags[resourceTag+"cpu"] != "" && g.Tags[resourceTag+"memory"] != ""
}

// template is the node that the group would bring, from its tags, as cloudprovider/aws/aws_manager.go (buildNodeFromTemplate) makes it:
// what a tag says goes before what the type has, and a tag that cannot be read is as if it were not there.
func (g Group) template() (*v1.Node, error) {
	if !g.knowsItself() && (g.CPU == 0 || g.Memory == 0) {
		return nil, fmt.Errorf("group %s: neither its tags nor instance type %q say its CPU and memory", g.Name, g.InstanceType)
	}
	capacity := v1.ResourceList{
		v1.ResourceCPU:    *resource.NewQuantity(g.CPU, resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(g.Memory, resource.BinarySI),
		v1.ResourcePods:   *resource.NewQuantity(podsOfANode, resource.DecimalSI),
	}
	name := g.Name + "-template"
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		v1.LabelArchStable:         "amd64",
		v1.LabelOSStable:           "linux",
		v1.LabelHostname:           name,
		v1.LabelInstanceTypeStable: g.InstanceType,
		v1.LabelTopologyRegion:     g.Region,
	}}}
	if len(g.Zones) > 0 {
		node.Labels[v1.LabelTopologyZone] = g.Zones[0]
	}
	for key, value := range g.Tags {
		if label, found := strings.CutPrefix(key, labelTag); found {
			node.Labels[label] = value
		} else if taint, found := strings.CutPrefix(key, taintTag); found {
			if parts := taintValue.FindStringSubmatch(value); parts != nil {
				node.Spec.Taints = append(node.Spec.Taints, v1.Taint{Key: taint, Value: parts[1], Effect: v1.TaintEffect(parts[2])})
			}
		} else if name, found := strings.CutPrefix(key, resourceTag); found {
			if amount, err := resource.ParseQuantity(value); err == nil {
				capacity[v1.ResourceName(name)] = amount
			}
		}
	}
	node.Status.Capacity, node.Status.Allocatable = capacity, capacity
	return node, nil
}

// templateOf is the node that the group would bring, from one that it has. What it lacks, the tags add; what it says, though it be 0, stands.
func templateOf(live, tagged *v1.Node) *v1.Node {
	node := live.DeepCopy()
	node.Name += "-template"
	node.Labels[v1.LabelHostname] = node.Name
	node.Spec.Unschedulable = false
	node.Spec.Taints = nil
	for _, taint := range live.Spec.Taints {
		if taint.Key != deletingTaint && !strings.HasPrefix(taint.Key, startupTaint) && !strings.HasPrefix(taint.Key, "node.kubernetes.io/") {
			node.Spec.Taints = append(node.Spec.Taints, taint)
		}
	}
	if tagged == nil {
		return node
	}
	node.Status.Allocatable = completed(node.Status.Allocatable, tagged.Status.Allocatable)
	node.Status.Capacity = completed(node.Status.Capacity, tagged.Status.Capacity)
	return node
}

func completed(said, otherwise v1.ResourceList) v1.ResourceList {
	found := maps.Clone(otherwise)
	maps.Copy(found, said)
	return found
}

// duration is the group's own option by tag, else the command line's.
func (g Group) duration(option string, otherwise time.Duration) time.Duration {
	if found, err := time.ParseDuration(g.Tags[optionTag+option]); err == nil {
		return found
	}
	return otherwise
}

func (g Group) threshold(otherwise float64) float64 {
	if found, err := strconv.ParseFloat(g.Tags[optionTag+"scaledownutilizationthreshold"], 64); err == nil {
		return found
	}
	return otherwise
}
