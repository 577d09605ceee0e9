// The kubelet's own device manager (pkg/kubelet/cm/devicemanager) without the rest of the kubelet: it serves device-plugins/kubelet.sock and is told
// by lines of JSON what the kubelet would ask of it. One line of JSON comes back for each.
//
//	{"cmd": "allocatable"}
//	{"cmd": "admit", "pod": "job", "limits": {"xilinx/u250": 1}, "init": {...}}
//	{"cmd": "start", "pod": "job"}
//	{"cmd": "end", "pod": "job"}
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
)

type ready struct{}

func (ready) AddSource(string) {}
func (ready) AllReady() bool   { return true }

type command struct {
	Cmd, Pod     string
	Limits, Init map[string]int64
}

func container(name string, limits map[string]int64) v1.Container {
	list := v1.ResourceList{}
	for resourceName, number := range limits {
		list[v1.ResourceName(resourceName)] = *resource.NewQuantity(number, resource.DecimalSI)
	}
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Limits: list, Requests: list}}
}

func admit(manager *devicemanager.ManagerImpl, pod *v1.Pod) error {
	for i := range pod.Spec.InitContainers {
		if err := manager.Allocate(pod, &pod.Spec.InitContainers[i]); err != nil {
			return err
		}
	}
	return manager.Allocate(pod, &pod.Spec.Containers[0])
}

func main() {
	manager, err := devicemanager.NewManagerImpl(nil, topologymanager.NewFakeManager())
	if err != nil {
		panic(err)
	}
	pods := map[string]*v1.Pod{}
	active := func() []*v1.Pod {
		var all []*v1.Pod
		for _, pod := range pods {
			all = append(all, pod)
		}
		return all
	}
	if err := manager.Start(klog.TODO(), active, ready{}, containermap.NewContainerMap(), sets.New[string]()); err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		answer := map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		switch asked.Cmd {
		case "allocatable":
			_, allocatable, _ := manager.GetCapacity()
			for name, quantity := range allocatable {
				answer[string(name)] = quantity.Value()
			}
		case "admit":
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: asked.Pod, UID: types.UID(asked.Pod)}}
			pod.Spec.Containers = []v1.Container{container("main", asked.Limits)}
			if asked.Init != nil {
				pod.Spec.InitContainers = []v1.Container{container("init", asked.Init)}
			}
			pods[asked.Pod] = pod
			if err := admit(manager, pod); err != nil {
				answer["error"] = err.Error()
				delete(pods, asked.Pod)
			}
			devices := map[string][]string{}
			for name, instances := range manager.GetDevices(asked.Pod, "main") {
				for id := range instances {
					devices[name] = append(devices[name], id)
				}
			}
			answer["devices"] = devices
		case "start":
			pod := pods[asked.Pod]
			options, err := manager.GetDeviceRunContainerOptions(context.Background(), pod, &pod.Spec.Containers[0])
			if err != nil {
				answer["error"] = err.Error()
			} else {
				answer["options"] = options
			}
		case "end":
			delete(pods, asked.Pod)
		}
		line, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
	}
}
