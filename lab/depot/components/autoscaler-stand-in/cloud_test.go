package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// awsDouble answers the calls that the stand-in makes, by action, and keeps a list of them.
type awsDouble struct {
	calls   []string
	answers map[string]func(url.Values) (status int, body string)
}

func (a *awsDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.Form.Get("Action")
	a.calls = append(a.calls, action)
	answer := a.answers[action]
	if answer == nil {
		http.Error(w, "nobody expected "+action, http.StatusNotImplemented)
		return
	}
	status, body := answer(r.Form)
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func double(t *testing.T, answers map[string]func(url.Values) (int, string)) (*awsDouble, *Cloud) {
	t.Helper()
	there := &awsDouble{answers: answers}
	server := httptest.NewServer(there)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true", "HOME": t.TempDir()} {
		t.Setenv(name, value)
	}
	file := filepath.Join(t.TempDir(), "cloud.conf")
	var text strings.Builder
	for _, service := range []string{"ec2", "autoscaling"} {
		fmt.Fprintf(&text, "[ServiceOverride %q]\nService=%q\nRegion=\"us-east-1\"\nURL=%q\n", service, service, server.URL)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cloud, err := newCloud(context.Background(), file)
	if err != nil {
		t.Fatal(err)
	}
	return there, cloud
}

func groupsAnswer(groups ...string) func(url.Values) (int, string) {
	return func(url.Values) (int, string) {
		return http.StatusOK, "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups>" + strings.Join(groups, "") +
			"</AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
	}
}

// A group of one instance type whose tags say what its nodes have, with no instance.
func groupXML(name, template string, desired int) string {
	return fmt.Sprintf(`<member><AutoScalingGroupName>%s</AutoScalingGroupName><MinSize>0</MinSize><MaxSize>4</MaxSize><DesiredCapacity>%d</DesiredCapacity>
		<LaunchTemplate><LaunchTemplateId>%s</LaunchTemplateId><Version>1</Version></LaunchTemplate>
		<Tags><member><Key>%scpu</Key><Value>20</Value></member><member><Key>%smemory</Key><Value>200Gi</Value></member></Tags></member>`,
		name, desired, template, resourceTag, resourceTag)
}

func templatesAnswer(form url.Values) (int, string) {
	if form.Get("LaunchTemplateId") == "lt-gone" {
		return http.StatusBadRequest, "<Response><Errors><Error><Code>InvalidLaunchTemplateId.NotFound</Code><Message>The specified launch template, with template ID lt-gone, does not exist.</Message></Error></Errors></Response>"
	}
	return http.StatusOK, "<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet><item><launchTemplateData><instanceType>f2.6xlarge</instanceType></launchTemplateData></item></launchTemplateVersionSet></DescribeLaunchTemplateVersionsResponse>"
}

func TestAGroupWhoseLaunchTemplateIsGoneDoesNotKeepTheOthersFromBeingRead(t *testing.T) {
	_, cloud := double(t, map[string]func(url.Values) (int, string){
		"DescribeAutoScalingGroups":      groupsAnswer(groupXML("lost", "lt-gone", 0), groupXML("f2-6xlarge", "lt-1", 0)),
		"DescribeLaunchTemplateVersions": templatesAnswer,
	})
	groups, _, err := cloud.read(context.Background(), nil, nil)
	if err != nil || len(groups) != 2 {
		t.Fatalf("found %v, %v", groups, err)
	}
	if groups[0].Unknown == nil || !strings.Contains(groups[0].Unknown.Error(), "lt-gone, does not exist") {
		t.Errorf("of the first is said %v", groups[0].Unknown)
	}
	if groups[1].Unknown != nil || groups[1].InstanceType != "f2.6xlarge" {
		t.Errorf("found %+v", groups[1])
	}
}

func TestAGroupWhoseTypeNobodyKnowsIsSaidToBeSuch(t *testing.T) {
	_, cloud := double(t, map[string]func(url.Values) (int, string){
		"DescribeAutoScalingGroups":      groupsAnswer(strings.ReplaceAll(groupXML("f2-6xlarge", "lt-1", 0), resourceTag+"cpu", "other")),
		"DescribeLaunchTemplateVersions": templatesAnswer,
		"DescribeInstanceTypes": func(url.Values) (int, string) {
			return http.StatusOK, "<DescribeInstanceTypesResponse><instanceTypeSet/></DescribeInstanceTypesResponse>"
		},
	})
	groups, _, err := cloud.read(context.Background(), nil, nil)
	if err != nil || len(groups) != 1 || groups[0].Unknown == nil || groups[0].Unknown.Error() != `AWS has no instance type "f2.6xlarge"` {
		t.Fatalf("found %+v, %v", groups, err)
	}
}

func TestAFailedLaunchIsFoundBehindNewerActivitiesAndBehindThePage(t *testing.T) {
	activity := func(ago time.Duration, status string) string {
		return fmt.Sprintf("<member><ActivityId>x</ActivityId><AutoScalingGroupName>f2</AutoScalingGroupName><Cause>x</Cause><StartTime>%s</StartTime><StatusCode>%s</StatusCode><StatusMessage>%s %s</StatusMessage></member>",
			noon.Add(-ago).Format(time.RFC3339), status, status, ago)
	}
	pages := map[string]string{
		"":  activity(time.Second, "InProgress") + activity(2*time.Second, "Successful"),
		"2": activity(3*time.Second, "Failed") + activity(time.Minute, "Failed"),
		"3": activity(time.Hour, "Successful"),
	}
	next := map[string]string{"": "2", "2": "3"}
	answers := map[string]func(url.Values) (int, string){
		"DescribeAutoScalingGroups":      groupsAnswer(groupXML("f2", "lt-1", 2)),
		"DescribeLaunchTemplateVersions": templatesAnswer,
		"DescribeScalingActivities": func(form url.Values) (int, string) {
			token := form.Get("NextToken")
			return http.StatusOK, fmt.Sprintf("<DescribeScalingActivitiesResponse><DescribeScalingActivitiesResult><Activities>%s</Activities><NextToken>%s</NextToken></DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>", pages[token], next[token])
		},
	}
	cases := []struct {
		name    string
		since   time.Duration
		message string
		asked   int
	}{
		{"since the raise", time.Minute, "Failed 3s", 2},
		{"of before the raise none is looked for", time.Second, "", 1},
		{"nobody knows of a raise", 0, "Failed 3s", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			aws, cloud := double(t, answers)
			since := map[string]time.Time{}
			if c.since > 0 {
				since["f2"] = noon.Add(-c.since)
			}
			_, failures, err := cloud.read(context.Background(), nil, since)
			if err != nil || failures["f2"].Message != c.message {
				t.Errorf("found %v, %v", failures, err)
			}
			if got := len(slices.DeleteFunc(aws.calls, func(call string) bool { return call != "DescribeScalingActivities" })); got != c.asked {
				t.Errorf("asked %d times, want %d", got, c.asked)
			}
		})
	}
}

func TestActivitiesThatCannotBeReadLeaveTheTimeThatANodeMayTake(t *testing.T) {
	_, cloud := double(t, map[string]func(url.Values) (int, string){
		"DescribeAutoScalingGroups":      groupsAnswer(groupXML("f2", "lt-1", 2)),
		"DescribeLaunchTemplateVersions": templatesAnswer,
		"DescribeScalingActivities": func(url.Values) (int, string) {
			return http.StatusForbidden, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
		},
	})
	if groups, failures, err := cloud.read(context.Background(), nil, nil); err != nil || len(groups) != 1 || len(failures) != 0 {
		t.Errorf("found %v, %v, %v", groups, failures, err)
	}
}
