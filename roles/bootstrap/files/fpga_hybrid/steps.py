# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host becomes a node: the steps, in their order. Each can be done again, and each is bounded in time."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import CLEAN, JOINED, KubeadmError, NodeConfig, join_documents, merge, parse_flags
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import DROP_IN, Kubeadm, refuse_situation
from ansible_collections.fpga.hybrid.plugins.module_utils._node import TemplateError, reservations
from fpga_hybrid import aws as aws_client
from fpga_hybrid import bundle as bundles
from fpga_hybrid import failure, hosts, imds, kube, vpn
from fpga_hybrid import node as nodes
from fpga_hybrid.aws import Aws, AwsError, BadCredentialsError, ClockError, DeniedError, NotFoundError, WrongRegionError
from fpga_hybrid.credentials import renewed
from fpga_hybrid.failure import Failure, Kind
from fpga_hybrid.kube import CLIENT_CERTIFICATE, Api, KubeError, UnauthorizedError, UnreachableError, WrongAuthorityError
from fpga_hybrid.options import READY, SSM
from fpga_hybrid.run import Endpoint, PendingError, Run

#: Seconds that the control plane may take to know a token that was just made.
TOKEN_PATIENCE = 10.0
#: Seconds after which a node of ours that went down counts as such (node-monitor-grace-period is 50).
GRACE = 75.0
#: Seconds that kubeadm may wait for the API, and for the kubelet's certificate.
KUBEADM_PATIENCE = 120


class Step(NamedTuple):
    """seconds: what it may take at most, within what is left of --timeout. of_a_node: done again on a host that is a node already."""

    name: str
    description: str
    seconds: float
    do: Callable[[Run], None]
    of_a_node: bool = False


# --- identify: who is this? ------------------------------------------------------------------------------------------------------------


def identify(run: Run) -> None:
    options = run.options
    if options.config:
        run.declared = nodes.read_declaration(run.host.read(run.given(options.config)), options.config)
    instance = _instance(run)
    run.node = nodes.describe(options, run.declared, instance, socket.gethostname())
    node = run.node
    run.log.say(f"this is {node.name}, {f'{instance.type} in {instance.zone}' if instance else 'on-prem'}, provider ID {node.provider_id or 'none'}")
    if node.left:
        run.log.say(f"left to the control plane, because a kubelet may not set it: label {', '.join(node.left)}")
    needed = ["kubeadm", "kubelet", "systemctl", *(["openvpn"] if options.openvpn_config or node.declared["vpn"] else [])]
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        remedy = "make the image anew (playbook image.yml)" if instance else "run site.yml"
        raise Failure(failure.PROGRAM, f"{node.name} has no {', no '.join(missing)}. A node needs {', '.join(needed)}: {remedy}.")
    _found, situation = run.host.situation("worker", api_timeout=0)
    try:
        refuse_situation(node.name, "worker", situation)
    except KubeadmError as error:
        raise Failure(failure.FOREIGN, str(error)) from None
    run.joined = situation.state == JOINED
    if run.joined:
        _see_that_the_node_is_this_one(run)


def _instance(run: Run) -> imds.Instance | None:
    """Where node.json says what this is, it is believed; where there is none, the metadata service is asked."""
    if run.declared is not None and not run.declared["pool"]:
        return None
    service = imds.Imds()
    expected = run.declared is not None
    where = f"pool {run.declared['pool']}" if run.declared else "no node.json"

    def look() -> imds.Instance | None:
        try:
            return service.instance()
        except imds.AbsentError as error:
            if not expected:
                return None
            remedy = "Is this an EC2 instance, and is its metadata service reachable (http://169.254.169.254, no proxy, no firewall)?"
            raise PendingError(failure.IMDS_ABSENT, f"{error}, but node.json is one of an EC2 instance ({where}). {remedy}") from None
        except imds.NotAwsError as error:
            if not expected:
                run.log.say(f"not EC2: {error}")
                return None
            remedy = "Start it from the pool's launch template in AWS."
            raise Failure(failure.NOT_AWS, f"{error}, but node.json is one of an EC2 instance ({where}). {remedy}") from None
        except imds.SlowError as error:
            remedy = "A container needs a hop limit of 2 (HttpPutResponseHopLimit); on the instance itself, see whether something answers in its place."
            raise PendingError(failure.IMDS_SLOW, f"{error}. {remedy}") from None
        except imds.VersionOneError as error:
            remedy = "Only version 2 is asked: upgrade the service, or outside of AWS give --config with the host's own provider_id."
            raise Failure(failure.IMDS_V1, f"{error}. {remedy}") from None
        except imds.DisabledError as error:
            remedy = "Enable it (HttpEndpoint in the metadata options of launch template and instance; pools.yml does)."
            raise Failure(failure.IMDS_DISABLED, f"{error}. {remedy}") from None

    return run.wait(look, patience=None if expected else 5.0)


def _see_that_the_node_is_this_one(run: Run) -> None:
    """An image that was made of a node would come up under the node's name."""
    found = parse_flags(run.host.read(run.host.paths.kubelet_flags) or "").get("provider-id")
    if found and run.node.provider_id and found != run.node.provider_id:
        raise Failure(
            failure.FOREIGN,
            f"this host is {run.node.provider_id}, but its kubelet is set up as {found}: it was copied from a node. "
            "Make the image from a host that never joined (playbook image.yml); to use this one, run kubeadm reset first.",
        )


# --- capacity: does it keep the pool's promise? -----------------------------------------------------------------------------------------


def weigh(run: Run) -> None:
    """Before anything is asked of anybody: an instance that is too small never becomes large enough."""
    try:
        reserved = reservations(run.node.declared, nodes.capacity(run.options.root)) if run.node.declared["resources"] else {}
    except TemplateError as error:
        raise Failure(failure.CAPACITY, str(error)) from None
    run.kubelet = merge(reserved, dict(run.node.kubelet.get("configuration") or {}))


# --- bundle: how does it join? ----------------------------------------------------------------------------------------------------------


def get_bundle(run: Run) -> None:
    options = run.options
    if options.bundle is None:
        run.bundle = bundles.JoinBundle(
            node=run.node.name,
            endpoint=str(options.endpoint),
            endpoint_address=None,
            token=str(options.token),
            ca_cert_hashes=options.ca_cert_hashes,
            vpn_profile=vpn.adapted(options.openvpn_config, login=options.openvpn_login is not None) if options.openvpn_config else None,
        )
    else:
        text = _from_parameter(run) if options.bundle == SSM else _from_file(run, options.bundle)
        run.bundle = _decoded(text)
        if run.bundle.node != run.node.name:
            raise Failure(
                failure.BUNDLE_FOREIGN,
                f"the join bundle was made for {run.bundle.node}, this is {run.node.name}. A bundle carries one node's VPN certificate: get this node's own.",
            )
    run.endpoint = Endpoint(run.bundle.endpoint, run.bundle.endpoint_address)


def _decoded(text: str) -> bundles.JoinBundle:
    try:
        return bundles.decode(text)
    except bundles.RefusedError as error:
        raise Failure(failure.REFUSED, f"keeper gives this instance no join bundle: {error}") from None
    except bundles.CutShortError as error:
        raise Failure(
            failure.BUNDLE_CUT, f"{error}. It has to be made anew: end this instance (keeper makes a bundle once), or on-prem run site.yml."
        ) from None
    except bundles.BundleError as error:
        raise Failure(failure.BUNDLE_BAD, f"{error}. Bring collection and image to the same version, then have it made anew.") from None


def _from_file(run: Run, path: str) -> str:
    try:
        with open(run.given(path), encoding="utf-8") as stream:
            mode = os.fstat(stream.fileno()).st_mode & 0o077
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Failure(failure.USAGE, f"--bundle {path} cannot be read: {reason}. It is used once, and removed: have it written again.") from None
    if mode:
        run.log.say(f"--bundle {path}: others can read it (mode {mode:04o}); what it holds should be taken back. Write it with mode 0600.")
    return text


def _said(error: Exception) -> str:
    return str(error).rstrip(".")


def _from_parameter(run: Run) -> str:
    """What keeper has written for this instance, waited for. Until it has, AWS says denied: a condition on a tag of nothing is not met."""
    aws, instance = run.node.declared["aws"], run.node.instance
    if not aws or instance is None:
        raise Failure(failure.CONFIG, "--bundle ssm: node.json has no section aws, or this is no EC2 instance. On-prem, give the bundle as a file.")
    name = f"{aws['ssm_prefix']}/nodes/{instance.id}"
    client = Aws(aws["region"], renewed(imds.Imds().credentials), aws["endpoint_url"], timeout=5.0, patience=0)

    def look() -> str:
        try:
            return str(client.call("ssm", "GetParameter", {"Name": name, "WithDecryption": True})["Parameter"]["Value"])
        except NotFoundError:
            raise PendingError(
                failure.NOT_ENROLLED,
                f"parameter {name} does not exist: keeper has not enrolled this instance. It enrols each id once, and only instances of groups with "
                f"tag fpga.hybrid/cluster-id={run.node.declared['cluster_id']}. Look at its log on the control plane: journalctl -u fpga-hybrid-keeper.",
            ) from None
        except ClockError as error:
            run.check_clock(client.clock_offset, "AWS")
            raise PendingError(failure.CLOCK, f"AWS refuses this host's time: {_said(error)}. See chronyc tracking, timedatectl.") from None
        except WrongRegionError as error:
            raise Failure(failure.REGION, f"{_said(error)}. The endpoint of node.json ({aws['endpoint_url']}) is not {aws['region']}'s.") from None
        except DeniedError as error:
            raise PendingError(
                failure.DENIED,
                f"parameter {name} is denied to this instance: either keeper has not enrolled it (journalctl -u fpga-hybrid-keeper on the control plane), or "
                f"its role lacks the policy for instances (playbook iam.yml), or the parameter is another instance's. AWS says: {error.message}",
            ) from None
        except BadCredentialsError as error:
            # The service gives credentials a few seconds after the start, and AWS knows them a few seconds later.
            role = "has no role" if isinstance(error.__cause__, imds.NoRoleError) else f"has no good credentials ({_said(error)})"
            remedy = "Set the pool's instance_profile, run iam.yml and pools.yml, then end this instance."
            raise PendingError(failure.NO_ROLE, f"{instance.id} {role}. {remedy}") from None
        except aws_client.UnreachableError as error:
            remedy = f"Can this instance reach SSM in {aws['region']} (route, NAT or VPC endpoint, security group, proxy)?"
            raise PendingError(failure.AWS, f"{_said(error)}. {remedy}") from None
        except AwsError as error:
            remedy = "Throttling and failures of AWS pass; the autoscaler tries again after its back-off."
            raise PendingError(failure.AWS, f"{_said(error)}. {remedy}") from None

    text = run.wait(look, pause=1.0)
    run.check_clock(client.clock_offset, "AWS")
    return text


# --- vpn: is it up, and does anybody answer? --------------------------------------------------------------------------------------------


def bring_up_vpn(run: Run) -> None:
    profile = run.bundle.vpn_profile
    if profile is None and run.bundle.vpn_address is None:
        run.address = run.bundle.address
        return
    began = time.time()
    if profile is not None:
        _write_profile(run, profile)
    profile_facts = vpn.facts(profile or run.host.read(run.path(vpn.CONFIGURATION)) or "")
    tunnel, words = vpn.Tunnel(None), ""

    def look() -> None:
        nonlocal tunnel, words
        tunnel = vpn.look(run.path(vpn.SOCKET))
        words = vpn.trouble(tunnel, profile_facts, run.node.name)
        if words:
            raise PendingError(failure.VPN, words)
        _expect_an_answer(run)

    def look_at_login() -> None:
        try:
            look()
        except PendingError:
            if vpn.refused_login(_vpn_log(run, began)):
                run.host.systemctl("disable", "--now", vpn.UNIT)
                raise _LoginRefusedError from None
            raise

    try:
        run.wait(look_at_login if run.options.openvpn_login else look, pause=0.2)
    except _LoginRefusedError:
        sentence = "the VPN server refuses the login, and the client was stopped, because many attempts lock an account. Correct --openvpn-login and run again."
        raise Failure(failure.VPN, sentence) from None
    except Failure as found:
        if run.options.dry_run:
            run.vpn_is_up, run.address = False, run.bundle.address
            run.log.say(f"the VPN is not up yet: {found.sentence}")
            return
        if words:
            raise Failure(found.kind, vpn.failed(tunnel, profile_facts, run.node.name, _vpn_log(run, began), time.time() - began)) from None
        raise
    run.address = run.bundle.address or (tunnel.state.address if tunnel.state else None)


class _LoginRefusedError(Exception):
    pass


def _write_profile(run: Run, profile: str) -> None:
    """The unit and its program are role openvpn's, on the host or in the image."""
    path, login = run.path(vpn.CONFIGURATION), run.options.openvpn_login
    current = run.host.read(path)
    if login and run.host.read(run.path(vpn.LOGIN)) != login and run.may(f"write /{vpn.LOGIN}"):
        run.host.write(run.path(vpn.LOGIN), login, 0o600)
    if current != profile:
        if run.may(f"write /{vpn.CONFIGURATION}, start {vpn.UNIT}"):
            run.host.write(path, profile, 0o600)
            if current is None:
                run.systemctl(failure.VPN, "enable", "--now", vpn.UNIT)
            else:
                run.systemctl(failure.VPN, "enable", vpn.UNIT)
                run.systemctl(failure.VPN, "restart", vpn.UNIT)
    elif vpn.look(run.path(vpn.SOCKET)).state is None and run.may(f"start {vpn.UNIT}"):
        run.systemctl(failure.VPN, "enable", "--now", vpn.UNIT)


def _expect_an_answer(run: Run) -> None:
    """That OpenVPN is connected says nothing about the way behind it. A refusal is an answer, too: what serves there comes later."""
    server = run.server
    try:
        socket.create_connection((server.address or server.host, server.port), timeout=min(2.0, max(0.2, run.deadline.left))).close()
    except ConnectionRefusedError:
        return
    except socket.gaierror as error:
        raise PendingError(failure.VPN, f"the VPN is connected, but the endpoint's name {server.host} cannot be resolved ({error.strerror})") from None
    except OSError as error:
        raise PendingError(
            failure.VPN,
            f"the VPN is connected, but {server} does not answer through it ({error}). Look at the firewall of the VPN server, which must forward what "
            "comes from its tunnel, and of the control plane",
        ) from None


def _vpn_log(run: Run, since: float) -> tuple[str, ...]:
    _code, out, _err = run.execute(vpn.journal_arguments(since - 5))
    return tuple(out.splitlines())


# --- hosts: where is the endpoint? ------------------------------------------------------------------------------------------------------


def name_the_endpoint(run: Run) -> None:
    """At each start, too: cloud-init may have written the file anew."""
    endpoint = run.endpoint
    if endpoint is None or endpoint.address is None or endpoint.server.host == endpoint.address:
        return
    path = run.path("etc/hosts")
    text = run.host.read(path) or ""
    wanted = hosts.with_entry(text, endpoint.server.host, endpoint.address)
    if wanted != text and run.may(f"name {endpoint.server.host} ({endpoint.address}) in /etc/hosts"):
        run.host.write(path, wanted, 0o644)


# --- cluster: is it the right one, does it know us? -------------------------------------------------------------------------------------


def meet_cluster(run: Run) -> None:
    if not run.vpn_is_up:
        return

    def find() -> kube.Discovery:
        try:
            return kube.discover(run.server, run.bundle.ca_cert_hashes)
        except WrongAuthorityError as error:
            raise Failure(
                failure.CA,
                f"{error}. Either the hash is of another cluster, or something else answers at that address: nothing was sent to it. "
                "The right hash: kubeadm token create --print-join-command on the control plane.",
            ) from None
        except KubeError as error:
            raise PendingError(
                failure.API, f"{error}. Look on the control plane: kubectl get --raw /readyz, and its firewall (port {run.server.port})"
            ) from None

    found = run.wait(find)
    run.address = run.address or run.source_address()
    run.check_clock(found.clock_offset, "the API server")
    api = Api(run.server, found.ca, token=run.bundle.token)
    node = run.wait(lambda: _known_node(run, api), patience=TOKEN_PATIENCE)
    if node is not None:
        _see_that_the_name_is_free(run, api, node)


def _known_node(run: Run, api: Api) -> kube.Object | None:
    try:
        return api.node(run.node.name)
    except UnauthorizedError:
        remedy = "Make a new one (site.yml does; by hand: kubeadm token create); an instance's bundle is good for 30 minutes: end the instance."
        raise PendingError(failure.TOKEN, f"the cluster does not know the join token, or it has expired. {remedy}") from None
    except kube.ForbiddenError:
        return None  # a group of tokens that may not look; kubeadm looks itself
    except UnreachableError as error:
        raise PendingError(failure.API, str(error)) from None
    except WrongAuthorityError as error:
        raise Failure(
            failure.CA, f"{error}. The CA is the cluster's, the server's certificate is not for this name: see cert_sans on the control plane."
        ) from None


def _see_that_the_name_is_free(run: Run, api: Api, node: kube.Object) -> None:
    """A kubelet takes over the Node of its name with everything in it, also the provider ID of a dead one, by which the autoscaler would judge it."""
    name, found = run.node.name, (node.get("spec") or {}).get("providerID") or ""
    if found != (run.node.provider_id or ""):
        _ready, why = kube.ready_condition(node)
        raise Failure(
            failure.NAME_TAKEN,
            f"a Node {name} exists already, with provider ID {found or 'none'} (since {node['metadata'].get('creationTimestamp')}; {why}); this host is "
            f"{run.node.provider_id or 'without one'}. If that one is dead: kubectl delete node {name}. Else give this host another name (--node-name).",
        )

    def look() -> None:
        current = _known_node(run, api)
        if current is not None and kube.ready_condition(current)[0]:
            remedy = f"If this host was reset: kubectl delete node {name}. Else another host runs under its name: end that."
            raise PendingError(failure.NAME_TAKEN, f"a Node {name} with this host's provider ID is Ready, and this host has not joined. {remedy}")

    run.wait(look, pause=2.0, patience=GRACE)


# --- join ------------------------------------------------------------------------------------------------------------------------------


def join(run: Run) -> None:
    node, host = run.node, run.host
    _order_kubelet_after_vpn(run)
    if run.options.dry_run:
        run.documents = _documents(run, "/run/fpga-hybrid/kubeadm-patches")
    if not run.may("kubeadm join"):
        return
    try:
        with host.lock(timeout=int(run.deadline.left)) as handle:
            _found, situation = host.situation("worker", api_timeout=0)
            refuse_situation(node.name, "worker", situation)
            if situation.state != JOINED:
                kubeadm = Kubeadm(host, node.name, handle)
                if situation.state == CLEAN:
                    run.log.say(f"{situation.reason}: kubeadm reset first")
                    kubeadm.reset(nodes.cri_socket(node, run.options.root))
                patches = kubeadm.patches(run.kubelet)
                run.documents = _documents(run, patches)
                host.begin("join", node.declared["cluster_id"])
                try:
                    kubeadm.configure("join", run.documents, node.declared["ignore_preflight"], run.bundle.token)
                finally:
                    shutil.rmtree(patches, ignore_errors=True)
            host.end()
    except KubeadmError as error:
        raise Failure(_kind_of(str(error)), str(error)) from None


def _documents(run: Run, patches: str) -> list[kube.Object]:
    node = run.node
    config = NodeConfig(
        name=node.name,
        address=run.address or "",
        cri_socket=nodes.cri_socket(node, run.options.root),
        provider_id=node.provider_id,
        taints=tuple(dict(taint) for taint in node.taints),
        extra_args={**(node.kubelet.get("extra_args") or {}), **node.label_flag},
    )
    timeout = min(KUBEADM_PATIENCE, run.options.timeout)
    try:
        made: list[kube.Object] = join_documents(config, run.bundle.endpoint, run.bundle.token, list(run.bundle.ca_cert_hashes), patches, timeout)
    except KubeadmError as error:
        raise Failure(failure.CA, str(error)) from None
    return made


def _order_kubelet_after_vpn(run: Run) -> None:
    """On-prem role kubeadm writes it."""
    path = run.host.paths.drop_in
    if run.bundle.vpn_profile is None or os.path.exists(path):
        return
    if run.may("start the kubelet after the VPN"):
        run.host.write(path, DROP_IN.format(units=vpn.UNIT), 0o644)
        run.systemctl(failure.KUBEADM, "enable", "kubelet")  # which has systemd read the file, too


#: kubeadm's own words, where it finds out what we asked about before it.
_WORDS = (
    (r"none of the public keys|cluster CA found in cluster-info ConfigMap is invalid|certificate signed by unknown authority", failure.CA),
    (r"could not find a JWS signature|token id .* is invalid|Unauthorized|failed to verify JWS", failure.TOKEN),
    (r"already exists in the cluster", failure.NAME_TAKEN),
    (r"connection refused|i/o timeout|no route to host|context deadline exceeded", failure.API),
)


def _kind_of(text: str) -> Kind:
    if "files that we did not make" in text or "is a control plane" in text:
        return failure.FOREIGN
    return next((kind for words, kind in _WORDS if re.search(words, text)), failure.KUBEADM)


# --- ready -----------------------------------------------------------------------------------------------------------------------------


def see_it_ready(run: Run) -> None:
    """By the kubelet's own certificate, which so is proved good, too."""
    if run.options.dry_run and not run.joined:
        return
    api = _own_api(run)

    def look() -> None:
        node = _own_node(run, api)
        found = (node.get("spec") or {}).get("providerID") or None
        if run.node.provider_id and found != run.node.provider_id:
            raise Failure(
                failure.NAME_TAKEN,
                f"Node {run.node.name} has provider ID {found or 'none'}, this host is {run.node.provider_id}. It cannot be changed on a Node that exists: "
                f"kubectl delete node {run.node.name}, then systemctl restart kubelet.",
            )
        ready, why = kube.ready_condition(node)
        if run.options.until == READY and not ready:
            raise PendingError(
                failure.NOT_READY,
                f"Node {run.node.name} is not Ready ({why}). Look at its network pod (kubectl -n kube-system get pods -o wide --field-selector "
                f"spec.nodeName={run.node.name}) and at journalctl -u kubelet -n 50",
            )

    run.wait(look, pause=0.3)


def _own_api(run: Run) -> Api:
    def look() -> Api:
        ca, server = run.host.read(run.host.paths.ca), _server_of_kubelet(run)
        if ca is None or server is None or not os.path.exists(run.path(CLIENT_CERTIFICATE)):
            raise PendingError(failure.NOT_READY, "the kubelet has no certificate of its own yet. Look at journalctl -u kubelet -n 50")
        try:
            return Api(server, ca, certificate=run.path(CLIENT_CERTIFICATE))
        except KubeError as error:
            raise PendingError(failure.NOT_READY, f"{error}. Look at journalctl -u kubelet -n 50") from None

    return run.wait(look, pause=0.2)


def _server_of_kubelet(run: Run) -> kube.Server | None:
    """The endpoint that it uses; the address that we know its name to have."""
    found = kube.endpoint_in(run.host.read(run.host.paths.kubelet_kubeconfig) or "")
    if not found:
        return None
    address = run.endpoint.address if run.endpoint and run.endpoint.name == found else None
    return kube.Server.of(found, address)


def _own_node(run: Run, api: Api) -> kube.Object:
    name = run.node.name
    try:
        node = api.node(name)
    except UnreachableError as error:
        raise PendingError(failure.API, str(error)) from None
    except KubeError as error:
        raise PendingError(failure.NOT_READY, f"the API does not let this kubelet see Node {name}: {error}. Look at journalctl -u kubelet -n 50") from None
    if node is None:
        raise PendingError(failure.NOT_READY, f"the cluster has no Node {name} yet. If it was deleted: systemctl restart kubelet registers it anew")
    return node


STEPS = (
    Step("identify", "find out what this host is", 40, identify, of_a_node=True),
    Step("capacity", "see that it has what its pool promises", 5, weigh),
    Step("bundle", "get what it joins with", 420, get_bundle),
    Step("vpn", "bring up the VPN, see that somebody answers", 120, bring_up_vpn),
    Step("hosts", "name the endpoint", 10, name_the_endpoint, of_a_node=True),
    Step("cluster", "see that it is the right cluster and that the name is free", 120, meet_cluster),
    Step("join", "kubeadm join", 240, join),
    Step("ready", "see the Node registered, and Ready", 300, see_it_ready, of_a_node=True),
)


def forget_secrets(run: Run) -> None:
    """What bootstrap was given only for the join."""
    path = run.options.bundle
    if path and path != SSM and not run.options.dry_run:
        with suppress(FileNotFoundError):
            os.unlink(run.given(path))
