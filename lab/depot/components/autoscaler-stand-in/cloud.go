package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"gopkg.in/gcfg.v1"
)

// cloudConfig is the file of --cloud-config as upstream reads it (cloudprovider/aws/aws_cloud_provider.go), as far as it is honoured.
type cloudConfig struct {
	Global          struct{}
	ServiceOverride map[string]*struct{ Service, Region, URL, SigningRegion, SigningMethod, SigningName string }
}

// endpoints are URLs by service, of the region.
func readEndpoints(file, region string) (map[string]string, error) {
	found := map[string]string{}
	if file == "" {
		return found, nil
	}
	var read cloudConfig
	if err := gcfg.ReadFileInto(&read, file); err != nil {
		return nil, fmt.Errorf("--cloud-config: %w", err)
	}
	for name, override := range read.ServiceOverride {
		address, err := url.Parse(override.URL)
		if err != nil || address.Host == "" || override.Service == "" || override.Region == "" {
			return nil, fmt.Errorf("--cloud-config: ServiceOverride %q: found service %q, region %q, URL %q; expected all three", name, override.Service, override.Region, override.URL)
		}
		if override.Region == region {
			found[override.Service] = override.URL
		}
	}
	return found, nil
}

// Cloud is AWS' side of it.
type Cloud struct {
	region string
	groups *autoscaling.Client
	ec2    *ec2.Client
	types  map[string]string // launch template and its version, or launch configuration -> instance type
	sizes  map[string]ec2types.InstanceTypeInfo
}

const product = "cluster-autoscaler-stand-in"

func newCloud(ctx context.Context, file string) (*Cloud, error) {
	// As with upstream, only --cloud-config says that a service is elsewhere.
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_AUTO_SCALING"} {
		os.Unsetenv(name)
	}
	settings, err := config.LoadDefaultConfig(ctx, config.WithAPIOptions(nil), config.WithAppID(product))
	if err != nil {
		return nil, err
	}
	if settings.Region == "" {
		return nil, fmt.Errorf("AWS_REGION: found nothing; expected a region")
	}
	endpoints, err := readEndpoints(file, settings.Region)
	if err != nil {
		return nil, err
	}
	settings.APIOptions = append(settings.APIOptions, middleware.AddUserAgentKey(product))
	base := func(service string) *string {
		if found := endpoints[service]; found != "" {
			return aws.String(found)
		}
		return nil
	}
	return &Cloud{
		region: settings.Region,
		groups: autoscaling.NewFromConfig(settings, func(o *autoscaling.Options) { o.BaseEndpoint = base("autoscaling") }),
		ec2:    ec2.NewFromConfig(settings, func(o *ec2.Options) { o.BaseEndpoint = base("ec2") }),
		types:  map[string]string{},
		sizes:  map[string]ec2types.InstanceTypeInfo{},
	}, nil
}

// read gives the groups that carry all tags, and the failed launches of those that lack instances.
func (c *Cloud) read(ctx context.Context, tags []Tag) ([]Group, map[string]Failure, error) {
	var filters []autoscalingtypes.Filter
	for _, tag := range tags {
		if tag.Value == "" {
			filters = append(filters, autoscalingtypes.Filter{Name: aws.String("tag-key"), Values: []string{tag.Key}})
		} else {
			filters = append(filters, autoscalingtypes.Filter{Name: aws.String("tag:" + tag.Key), Values: []string{tag.Value}})
		}
	}
	var groups []Group
	failures := map[string]Failure{}
	pages := autoscaling.NewDescribeAutoScalingGroupsPaginator(c.groups, &autoscaling.DescribeAutoScalingGroupsInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, found := range page.AutoScalingGroups {
			group := groupOf(found, c.region)
			if err := c.describe(ctx, found, &group); err != nil {
				return nil, nil, fmt.Errorf("group %s: %w", group.Name, err)
			}
			if group.Desired > len(group.Instances) {
				if err := c.newestFailure(ctx, group.Name, failures); err != nil {
					return nil, nil, err
				}
			}
			groups = append(groups, group)
		}
	}
	return groups, failures, nil
}

func groupOf(found autoscalingtypes.AutoScalingGroup, region string) Group {
	group := Group{
		Name: aws.ToString(found.AutoScalingGroupName), Min: int(aws.ToInt32(found.MinSize)), Max: int(aws.ToInt32(found.MaxSize)),
		Desired: int(aws.ToInt32(found.DesiredCapacity)), Region: region, Zones: found.AvailabilityZones, Tags: map[string]string{},
	}
	for _, tag := range found.Tags {
		group.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	for _, one := range found.Instances {
		if !strings.HasPrefix(string(one.LifecycleState), "Terminat") {
			group.Instances = append(group.Instances, Instance{aws.ToString(one.InstanceId), aws.ToString(one.AvailabilityZone)})
		}
	}
	return group
}

// describe adds the instance type, and what that has where the group's tags don't say it.
func (c *Cloud) describe(ctx context.Context, found autoscalingtypes.AutoScalingGroup, group *Group) error {
	var err error
	if group.InstanceType, err = c.instanceType(ctx, found); err != nil || group.knowsItself() {
		return err
	}
	if _, known := c.sizes[group.InstanceType]; !known {
		answer, err := c.ec2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []ec2types.InstanceType{ec2types.InstanceType(group.InstanceType)}})
		if err != nil || len(answer.InstanceTypes) != 1 {
			return fmt.Errorf("instance type %q: %w", group.InstanceType, err)
		}
		c.sizes[group.InstanceType] = answer.InstanceTypes[0]
	}
	size := c.sizes[group.InstanceType]
	group.CPU = int64(aws.ToInt32(size.VCpuInfo.DefaultVCpus))
	group.Memory = aws.ToInt64(size.MemoryInfo.SizeInMiB) << 20
	return nil
}

func (c *Cloud) instanceType(ctx context.Context, found autoscalingtypes.AutoScalingGroup) (string, error) {
	template := found.LaunchTemplate
	if mixed := found.MixedInstancesPolicy; mixed != nil && mixed.LaunchTemplate != nil {
		// Of several types the first stands for all, as with upstream.
		if overrides := mixed.LaunchTemplate.Overrides; len(overrides) > 0 && overrides[0].InstanceType != nil {
			return *overrides[0].InstanceType, nil
		}
		template = mixed.LaunchTemplate.LaunchTemplateSpecification
	}
	if template == nil {
		return c.typeOfConfiguration(ctx, aws.ToString(found.LaunchConfigurationName))
	}
	version := aws.ToString(template.Version)
	key := aws.ToString(template.LaunchTemplateId) + "/" + version
	if known := c.types[key]; known != "" && !strings.HasPrefix(version, "$") {
		return known, nil
	}
	answer, err := c.ec2.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: template.LaunchTemplateId, Versions: []string{version}})
	if err != nil {
		return "", err
	}
	if len(answer.LaunchTemplateVersions) != 1 {
		return "", fmt.Errorf("launch template %s has no version %s", aws.ToString(template.LaunchTemplateName), version)
	}
	c.types[key] = string(answer.LaunchTemplateVersions[0].LaunchTemplateData.InstanceType)
	return c.types[key], nil
}

func (c *Cloud) typeOfConfiguration(ctx context.Context, name string) (string, error) {
	if known := c.types[name]; known != "" {
		return known, nil
	}
	answer, err := c.groups.DescribeLaunchConfigurations(ctx, &autoscaling.DescribeLaunchConfigurationsInput{LaunchConfigurationNames: []string{name}})
	if err != nil {
		return "", err
	}
	if len(answer.LaunchConfigurations) != 1 {
		return "", fmt.Errorf("there is no launch configuration %q", name)
	}
	c.types[name] = aws.ToString(answer.LaunchConfigurations[0].InstanceType)
	return c.types[name], nil
}

func (c *Cloud) newestFailure(ctx context.Context, group string, failures map[string]Failure) error {
	answer, err := c.groups.DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{AutoScalingGroupName: aws.String(group), MaxRecords: aws.Int32(1)})
	if err != nil {
		return err
	}
	for _, activity := range answer.Activities { // the newest first
		if activity.StatusCode == autoscalingtypes.ScalingActivityStatusCodeFailed {
			failures[group] = Failure{aws.ToTime(activity.StartTime), aws.ToString(activity.StatusMessage)}
		}
	}
	return nil
}

func (c *Cloud) setDesired(ctx context.Context, group string, size int) error {
	_, err := c.groups.SetDesiredCapacity(ctx, &autoscaling.SetDesiredCapacityInput{
		AutoScalingGroupName: aws.String(group), DesiredCapacity: aws.Int32(int32(size)), HonorCooldown: aws.Bool(false),
	})
	return err
}

func (c *Cloud) end(ctx context.Context, instance string) error {
	_, err := c.groups.TerminateInstanceInAutoScalingGroup(ctx, &autoscaling.TerminateInstanceInAutoScalingGroupInput{
		InstanceId: aws.String(instance), ShouldDecrementDesiredCapacity: aws.Bool(true),
	})
	return err
}
