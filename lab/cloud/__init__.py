"""The lab's AWS: moto, and in front of it a proxy for what moto lacks.

    python -m lab.cloud --listen 127.0.0.1:5000      a process of its own (by hand)
    with Cloud() as cloud: ...                       in a test's process (lab.cloud.server; fixtures in lab.cloud.testing)
    lab/lab cloud                                    over the running lab, with a real host for every instance (lab.cloud.sidecar)
    with Cloud("10.203.10.1") as cloud, SideCar(cloud, reference) as cars: ...   the same in a program

All are one program: the proxy is WSGI middleware around moto's own application, under one threaded server. All state is in memory and
ends with the process. boto3, curl and the real Cluster Autoscaler talk to it; it is steered through its control URL (lab.cloud.control).

What the proxy adds to moto
- Every call is recorded: service, action, region, who signed, a digest of the parameters, the answer's status, what had to be authorised.
- Faults: throttling, denial, any other error, latency, an endpoint that hangs up, no capacity (lab.cloud.faults).
- Auto Scaling (lab.cloud.groups): launches one by one into the zones in turn, scaling activities, no capacity, vCPU quotas, types that a
  zone doesn't have, suspended Launch, Terminate and ReplaceUnhealthy, pending and shutting-down for as long as it is told, AWS's refusals.
- IAM (lab.cloud.identities, policies, checks): who signs is looked up in moto's IAM, the signature is verified, and the policies that hang
  on the identity are evaluated with their conditions, also for what an action implies (tagging on creation, iam:PassRole, ec2:RunInstances
  when a group is made with a launch template).
- A few calls that moto doesn't know (lab.cloud.gaps): DeleteLaunchTemplateVersions, SimulatePrincipalPolicy, EC2's vCPU quotas; GetConsoleOutput
  answers what the side-car has read on the instance's console.
- What AWS does by itself (the side-car does it) bears a key of its own: it is neither recorded nor faulted nor asked of IAM.

What it does not do
- Keys that moto's IAM doesn't know belong to the account's root user, who may do everything, and whose signature is not verified;
  `unknown_keys: refused` makes them an error instead.
- No resource policies, no service control policies, no session policies, no trust policies (sts:AssumeRole asks the caller's policy only).
- Condition keys: those that lab.cloud.checks lists, and no others; a condition on another one is never met. Operators: lab.cloud.policies.
- An action that lab.cloud.checks has no line for is checked on resource * without tags, as AWS does for actions without resource-level
  permissions; so a policy that restricts such an action is stricter here than at AWS, never laxer.
- Auto Scaling keeps no cooldowns, warm pools, lifecycle hooks, instance refresh, scheduled actions; it takes the oldest unprotected
  instances first and of a mixed policy the overrides in order, without weights.
- Nothing takes time but what is told to, and AWS's eventual consistency isn't imitated.
- Types that moto's catalogue lacks (f1.*) are unknown to DescribeInstanceTypes, as they are to AWS, and launch in every zone nevertheless.
"""
