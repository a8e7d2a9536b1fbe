"""kill -9 at any moment: what was acknowledged is there afterwards, and nothing is left halfway.

Run as a program, this file is the victim: an engine under load that tells on stdout what it was promised.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

from lifecycle_rig import Rig, hot, probe

from heatperf.engine import records

KILLS = 8
_CLIENTS = 4


def template(rng):
    """Something that takes a moment, changes in place, is replaced, and keeps a document outside of its resource."""
    return hot(
        secret={"type": "OS::Heat::RandomString", "properties": {"length": rng.randrange(4, 8)}},
        config={"type": "OS::Heat::SoftwareConfig", "properties": {"config": str(rng.randrange(3))}},
        user=probe(value={"get_attr": ["secret", "value"]}, wait_secs=rng.choice([0, 0.01, 0.03])),
        last=probe(["user", "config"], value=str(rng.randrange(3)), wait_secs=0.01),
        **{f"extra{number}": "x" for number in range(rng.randrange(3))},
    )


def tell(*words):
    """One write per line: lines of several threads stay apart, and a kill cuts at most the last one."""
    os.write(1, (" ".join(words) + "\n").encode())


def be_a_client(rig, number, seed):
    rng = random.Random(f"{seed}-{number}")
    for turn in range(1000):
        identity = rig.create(f"stack-{seed}-{number}-{turn}", template(rng), disable_rollback=rng.random() < 0.5)
        tell("made", identity["stack_id"])
        if rng.random() < 0.7:
            rig.ended(identity)
        for _ in range(rng.randrange(3)):
            rig.update(identity, template(rng))
            if rng.random() < 0.7:
                rig.ended(identity)
        if rng.random() < 0.6:
            tell("leaving", identity["stack_id"])
            rig.call("delete_stack", stack_identity=identity)
            rig.ended(identity, "DELETE")
            tell("gone", identity["stack_id"])


def be_the_victim(state, seed):
    rig = Rig(pathlib.Path(state))
    tell("open")
    for number in range(_CLIENTS):
        threading.Thread(target=be_a_client, args=(rig, number, seed), daemon=True).start()
    threading.Event().wait()


def killed(state, seed):
    """Let an engine work for a random moment and kill it; returns what it said."""
    rng = random.Random(seed)
    victim = subprocess.Popen(
        [sys.executable, __file__, str(state), str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert victim.stdout.readline() == "open\n", victim.stderr.read()
        # the moment itself is what is random here
        time.sleep(rng.uniform(0.01, 0.35))
    finally:
        victim.send_signal(signal.SIGKILL)
        said, complaints = victim.communicate()
    assert "Traceback" not in complaints
    return [line.split() for line in said.splitlines() if line]


def check_consistency(rig, said):
    made = {line[1] for line in said if line[0] == "made"}
    leaving = {line[1] for line in said if line[0] == "leaving"}
    gone = {line[1] for line in said if line[0] == "gone"}
    with rig.engine._core.store.reading() as session:
        stacks = {stack.id: stack for stack in session.select(records.Stack)}
        resources = session.select(records.Resource)
        templates = {row.id for row in session.select(records.Template)}
        configs = {config.id for config in session.select(records.SoftwareConfig)}
    assert made <= stacks.keys()
    living = {stack_id: stack for stack_id, stack in stacks.items() if stack.deleted_at is None}
    assert made - leaving <= living.keys()
    assert not gone & living.keys()
    for stack in stacks.values():
        assert stack.status != "IN_PROGRESS"
        assert stack.template_id in templates
        last = rig.call("list_events", stack_identity=identity_of(stack), filters={"resource_name": stack.name})[0]
        assert (last["resource_action"], last["resource_status"]) == stack.state
        assert last["resource_status_reason"] == stack.status_reason
    for row in resources:
        assert row.stack_id in living
        assert row.status != "IN_PROGRESS"
        if row.state in (("CREATE", "COMPLETE"), ("UPDATE", "COMPLETE")):
            assert row.physical_id and row.definition
        if row.type == "OS::Heat::SoftwareConfig" and row.action in ("CREATE", "UPDATE") and row.physical_id:
            assert row.physical_id in configs
    # no document without the resource that made it
    assert configs <= {row.physical_id for row in resources if row.type == "OS::Heat::SoftwareConfig"}


def identity_of(stack):
    return {"tenant": stack.tenant, "stack_name": stack.name, "stack_id": stack.id, "path": ""}


def test_whatever_moment_the_engine_is_killed_at(tmp_path):
    seed = random.randrange(10**6)
    print("seed", seed)
    cut_off = 0
    for number in range(KILLS):
        said = killed(tmp_path, seed + number)
        rig = Rig(tmp_path)
        try:
            check_consistency(rig, said)
            listed = rig.call("list_stacks")
            reasons = {found["stack_status_reason"] for found in listed}
            cut_off += any(reason.startswith("Engine went down during stack") for reason in reasons)
            # whatever state it was left in, a stack can be brought on or removed
            for index, found in enumerate(listed):
                identity = found["stack_identity"]
                if index % 2 and found["stack_action"] != "DELETE":
                    rig.update(identity, hot(only="x"))
                    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
                    assert rig.resource_states(identity).keys() == {"only"}
                rig.call("delete_stack", stack_identity=identity)
            for found in listed:
                assert rig.ended(found["stack_identity"], "DELETE")["stack_status"] == "COMPLETE"
            with rig.engine._core.store.reading() as session:
                assert session.count(records.Resource) == 0
                assert session.count(records.SoftwareConfig) == 0
        finally:
            rig.close()
    assert cut_off, "no kill came in the middle of anything; the load is too light"


def test_a_stack_in_progress_is_failed_with_its_resources(tmp_path):
    rig = Rig(tmp_path)
    identity = rig.create(
        "cut", hot(done="x", busy=probe("done", action_wait_secs={"create": -1}), waits=probe("busy"))
    )
    while rig.resource_states(identity).get("busy") != "CREATE_IN_PROGRESS":
        time.sleep(0.005)
    rig.reopen(timeout=0)
    reason = "Engine went down during stack CREATE"
    assert rig.show(identity)["stack_status_reason"] == reason
    assert rig.resource_states(identity) == {
        "done": "CREATE_COMPLETE",
        "busy": "CREATE_FAILED",
        "waits": "INIT_COMPLETE",
    }
    assert rig.events(identity)[-2:] == [f"busy CREATE_FAILED: {reason}", f"cut CREATE_FAILED: {reason}"]
    rig.update(identity, hot(done="x", busy=probe("done"), waits=probe("busy")))
    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
    assert set(rig.resource_states(identity).values()) == {"CREATE_COMPLETE"}
    rig.close()


def test_a_stop_waits_for_operations_as_long_as_it_may(tmp_path):
    rig = Rig(tmp_path)
    identity = rig.create("slow", hot(a=probe(wait_secs=0.1), b=probe("a", wait_secs=0.1)))
    rig.reopen(timeout=5)
    assert rig.state_of(identity) == "CREATE_COMPLETE"
    rig.close()


if __name__ == "__main__":
    be_the_victim(sys.argv[1], sys.argv[2])
