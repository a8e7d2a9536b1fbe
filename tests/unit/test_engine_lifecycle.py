"""Operations on stacks: order, events, failures, rollbacks, replacements, cancelling."""

import functools
import random
import threading

import pytest
from lifecycle_rig import Rig, await_that, hot, probe

from heatperf.engine import records
from heatperf.engine.store import StoreUnwritable
from heatperf.errors import heat


@pytest.fixture
def rig(tmp_path):
    found = Rig(tmp_path)
    yield found
    found.close(0)


def random_string(**properties):
    return {"type": "OS::Heat::RandomString", "properties": properties}


def test_create_goes_in_the_order_of_dependencies(rig):
    template = hot(
        first=random_string(length=6),
        second=probe(value={"get_attr": ["first", "value"]}),
        third={"type": "OS::Heat::None", "depends_on": ["second"]},
        outputs={"secret": {"value": {"get_attr": ["second", "output"]}, "description": "the secret"}},
    )
    identity = rig.create("order", template)
    assert rig.ended(identity)["outputs"] == [
        {
            "output_key": "secret",
            "description": "the secret",
            "output_value": rig.resources(identity)["first"]["attributes"]["value"],
        }
    ]
    assert rig.events(identity) == [
        "order CREATE_IN_PROGRESS: Stack CREATE started",
        "first CREATE_IN_PROGRESS: state changed",
        "first CREATE_COMPLETE: state changed",
        "second CREATE_IN_PROGRESS: state changed",
        "second CREATE_COMPLETE: state changed",
        "third CREATE_IN_PROGRESS: state changed",
        "third CREATE_COMPLETE: state changed",
        "order CREATE_COMPLETE: Stack CREATE completed successfully",
    ]


def test_what_does_not_depend_on_each_other_is_made_together(rig):
    identity = rig.create("wide", hot(**{f"r{number}": probe(action_wait_secs={"create": -1}) for number in range(30)}))
    await_that(
        lambda: set(rig.resource_states(identity).values()) == {"CREATE_IN_PROGRESS"}, "work on all 30 resources"
    )
    rig.call("delete_stack", stack_identity=identity)
    rig.ended(identity, "DELETE")


def test_delete_goes_the_other_way_and_the_stack_stays_visible_by_its_id(rig):
    identity = rig.made("gone", hot(base="x", user=probe("base")))
    rig.call("delete_stack", stack_identity=identity)
    shown = rig.ended(identity, "DELETE")
    assert shown["stack_status_reason"] == "Stack DELETE completed successfully"
    assert shown["deletion_time"] and "outputs" not in shown
    assert rig.events(identity)[-6:] == [
        "gone DELETE_IN_PROGRESS: Stack DELETE started",
        "user DELETE_IN_PROGRESS: state changed",
        "user DELETE_COMPLETE: state changed",
        "base DELETE_IN_PROGRESS: state changed",
        "base DELETE_COMPLETE: state changed",
        "gone DELETE_COMPLETE: Stack DELETE completed successfully",
    ]
    assert rig.resources(identity) == {}
    with pytest.raises(heat.EntityNotFound):
        rig.call("delete_stack", stack_identity=identity)
    # its name is free again
    rig.made("gone", hot(base="x"))


def test_a_failure_stops_what_depends_on_it(rig):
    identity = rig.create("bad", hot(base=probe(fail=True), user=probe("base"), apart="x"))
    shown = rig.ended(identity)
    reason = "ValueError: resources.base: Test Resource failed base"
    assert shown["stack_status_reason"] == f"Resource CREATE failed: {reason}"
    await_that(lambda: rig.resource_states(identity)["apart"] == "CREATE_COMPLETE", "the end of the other resource")
    assert rig.resource_states(identity) == {
        "base": "CREATE_FAILED",
        "user": "INIT_COMPLETE",
        "apart": "CREATE_COMPLETE",
    }
    assert rig.resources(identity)["base"]["resource_status_reason"] == reason


def test_a_failed_create_is_rolled_back_to_nothing_where_the_user_wants_it(rig):
    identity = rig.create("undone", hot(base="x", bad=probe("base", fail=True)), disable_rollback=False)
    assert rig.ended(identity, "ROLLBACK")["stack_status"] == "COMPLETE"
    assert rig.resources(identity) == {}
    stack_events = [event for event in rig.events(identity) if event.startswith("undone")]
    assert stack_events == [
        "undone CREATE_IN_PROGRESS: Stack CREATE started",
        "undone CREATE_FAILED: Resource CREATE failed: ValueError: resources.bad: Test Resource failed bad",
        "undone ROLLBACK_IN_PROGRESS: Stack ROLLBACK started",
        "undone ROLLBACK_COMPLETE: Stack ROLLBACK completed successfully",
    ]


def test_an_update_changes_replaces_adds_and_removes(rig):
    before = hot(kept="x", changed="old", replaced=random_string(length=8), removed="x")
    identity = rig.made("many", before)
    old = rig.resources(identity)
    after = hot(kept="x", changed="new", replaced=random_string(length=9), added="x")
    preview = rig.call("preview_update_stack", stack_identity=identity, template=after, params={}, files={}, args={})
    assert {what: [found["resource_name"] for found in resources] for what, resources in preview.items()} == {
        "unchanged": ["kept"],
        "updated": ["changed"],
        "replaced": ["replaced"],
        "added": ["added"],
        "deleted": ["removed"],
    }
    assert rig.resources(identity) == old
    seen = len(rig.events(identity))
    rig.update(identity, after)
    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
    new = rig.resources(identity)
    assert new.keys() == {"kept", "changed", "replaced", "added"}
    assert new["kept"] == old["kept"]
    assert new["changed"]["physical_resource_id"] == old["changed"]["physical_resource_id"]
    assert new["changed"]["attributes"] == {"output": "new"}
    assert len(new["replaced"]["attributes"]["value"]) == 9
    assert new["replaced"]["physical_resource_id"] != old["replaced"]["physical_resource_id"]
    by_name = {}
    for event in rig.events(identity)[seen:]:
        by_name.setdefault(event.split()[0], []).append(event.split(" ", 1)[1])
    assert by_name["replaced"] == [
        "UPDATE_IN_PROGRESS: state changed",
        "UPDATE_COMPLETE: The Resource replaced requires replacement.",
        "CREATE_IN_PROGRESS: state changed",
        "CREATE_COMPLETE: state changed",
        "DELETE_IN_PROGRESS: state changed",
        "DELETE_COMPLETE: state changed",
    ]
    assert "kept" not in by_name


def test_the_old_one_goes_only_after_its_users_moved_to_the_new_one(rig):
    def template(length):
        return hot(secret=random_string(length=length), user=probe(value={"get_resource": "secret"}))

    identity = rig.made("moving", template(5))
    seen = len(rig.events(identity))
    rig.update(identity, template(7))
    rig.ended(identity, "UPDATE")
    events = [event.split(":")[0] for event in rig.events(identity)[seen:]]
    assert events.index("user UPDATE_COMPLETE") < events.index("secret DELETE_IN_PROGRESS")
    resources = rig.resources(identity)
    assert resources["user"]["attributes"]["output"] == resources["secret"]["attributes"]["value"]
    assert len(resources["user"]["attributes"]["output"]) == 7


def test_a_resource_may_ask_for_its_replacement(rig):
    identity = rig.made("asks", hot(it=probe(value="a")))
    before = rig.resources(identity)["it"]["physical_resource_id"]
    rig.update(identity, hot(it=probe(value="b", update_replace=True)))
    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
    assert rig.resources(identity)["it"]["physical_resource_id"] != before


def test_a_failed_update_is_rolled_back_to_the_template_before(rig):
    def template(length, **properties):
        user = probe(value={"get_resource": "secret"}, **properties)
        return hot(kept=f"{length}", secret=random_string(length=length), user=user)

    identity = rig.made("back", template(4), disable_rollback=False)
    before = rig.resources(identity)
    rig.update(identity, template(5, fail=True))
    assert rig.ended(identity, "ROLLBACK")["stack_status_reason"] == "Stack ROLLBACK completed successfully"
    after = rig.resources(identity)
    # the old secret was still in use when the update failed, so it is the very same again
    assert {name: found["attributes"] for name, found in after.items()} == {
        name: found["attributes"] for name, found in before.items()
    }
    assert after["secret"]["physical_resource_id"] == before["secret"]["physical_resource_id"]
    stored = rig.call("get_template", stack_identity=identity)
    assert stored["resources"]["secret"]["properties"] == {"length": 4}
    # and the new one went only after its failed user was made anew
    events = [event.split(":")[0] for event in rig.events(identity)]
    events = events[events.index("back ROLLBACK_IN_PROGRESS") :]
    assert events.index("user CREATE_COMPLETE") < events.index("secret DELETE_IN_PROGRESS")


def test_a_failed_resource_is_replaced_by_the_next_update(rig):
    identity = rig.create("retry", hot(it=probe(fail=True), user=probe("it")))
    assert rig.ended(identity)["stack_status"] == "FAILED"
    rig.update(identity, hot(it=probe(fail=False), user=probe("it")))
    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
    assert set(rig.resource_states(identity).values()) == {"CREATE_COMPLETE"}


def test_none_is_never_updated(rig):
    def template(value):
        return hot(it={"type": "OS::Heat::None", "properties": {"anything": value}})

    identity = rig.made("none", template(1))
    before = rig.resources(identity)
    rig.update(identity, template(2))
    rig.ended(identity, "UPDATE")
    assert rig.resources(identity) == before


def test_a_retained_resource_is_not_unmade(rig):
    config = {"type": "OS::Heat::SoftwareConfig", "properties": {"config": "x"}}
    identity = rig.made("retain", hot(kept={**config, "deletion_policy": "retain"}, dropped=config))
    ids = {name: found["physical_resource_id"] for name, found in rig.resources(identity).items()}
    rig.call("delete_stack", stack_identity=identity)
    assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"
    assert rig.call("show_software_config", config_id=ids["kept"])["config"] == "x"
    with pytest.raises(heat.NotFound):
        rig.call("show_software_config", config_id=ids["dropped"])


def test_delete_cancels_what_is_running(rig):
    identity = rig.create("stuck", hot(it=probe(action_wait_secs={"create": -1})))
    await_that(lambda: rig.resource_states(identity).get("it") == "CREATE_IN_PROGRESS", "the create")
    rig.call("delete_stack", stack_identity=identity)
    assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"
    assert rig.events(identity) == [
        "stuck CREATE_IN_PROGRESS: Stack CREATE started",
        "it CREATE_IN_PROGRESS: state changed",
        "stuck CREATE_FAILED: Stack CREATE cancelled",
        "stuck DELETE_IN_PROGRESS: Stack DELETE started",
        "it CREATE_FAILED: CREATE aborted (user triggered cancel)",
        "it DELETE_IN_PROGRESS: state changed",
        "it DELETE_COMPLETE: state changed",
        "stuck DELETE_COMPLETE: Stack DELETE completed successfully",
    ]


def slow_update(rig, name):
    identity = rig.made(name, hot(it=probe(value="a")))
    rig.update(identity, hot(it=probe(value="b", action_wait_secs={"update": 0.2})))
    await_that(lambda: rig.resource_states(identity)["it"] == "UPDATE_IN_PROGRESS", "the update")
    return identity


def test_cancelling_an_update_rolls_it_back_once_the_resource_is_free(rig):
    identity = slow_update(rig, "cancelled")
    rig.call("stack_cancel_update", stack_identity=identity)
    assert rig.ended(identity, "ROLLBACK")["stack_status"] == "COMPLETE"
    assert rig.resources(identity)["it"]["attributes"] == {"output": "a"}


def test_cancelling_an_update_may_leave_it_where_it_is(rig):
    identity = slow_update(rig, "left")
    rig.call("stack_cancel_update", stack_identity=identity, cancel_with_rollback=False)
    assert rig.show(identity)["stack_status_reason"] == "Stack UPDATE cancelled"
    await_that(lambda: rig.resource_states(identity)["it"] == "UPDATE_COMPLETE", "the end of the resource's update")
    with pytest.raises(heat.NotSupported, match="Cancelling update when stack is UPDATE_FAILED is not supported"):
        rig.call("stack_cancel_update", stack_identity=identity)


def test_cancelling_an_update_that_ends_meanwhile_takes_nothing_away(rig, monkeypatch):
    identity = slow_update(rig, "over")
    operations = rig.engine._core.operations
    held = operations.held

    def once_it_ended(stack_id):
        rig.ended(identity)
        return held(stack_id)

    monkeypatch.setattr(operations, "held", once_it_ended)
    with pytest.raises(heat.NotSupported, match="Cancelling update when stack is UPDATE_COMPLETE is not supported"):
        rig.call("stack_cancel_update", stack_identity=identity)
    assert rig.resource_states(identity) == {"it": "UPDATE_COMPLETE"}


def test_updates_in_vain_leave_no_templates_behind(rig):
    identity = rig.made("vain", hot(it="x"))
    for number in range(4):
        rig.update(identity, hot(it=probe(value=f"v{number}", fail=True)))
        assert rig.ended(identity)["stack_status"] == "FAILED"
    with rig.engine._core.store.reading() as session:
        assert session.count(records.Template, "stack_id = ?", identity["stack_id"]) == 2
    rig.update(identity, hot(it=probe(value="last", fail=True)), disable_rollback=False)
    assert rig.ended(identity, "ROLLBACK")["stack_status"] == "FAILED"


def test_an_update_during_an_update_waits_for_busy_resources(rig):
    identity = slow_update(rig, "twice")
    rig.update(identity, hot(it=probe(value="c"), more="x"))
    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
    assert rig.resources(identity)["it"]["attributes"] == {"output": "c"}
    assert rig.resource_states(identity)["more"] == "CREATE_COMPLETE"


def test_a_timeout_fails_stack_and_resource(rig, monkeypatch):
    monkeypatch.setattr("heatperf.engine.operations.DEFAULT_TIMEOUT", 0.05)
    identity = rig.create("late", hot(it=probe(wait_secs=-1)))
    assert rig.ended(identity)["stack_status_reason"] == "Timed out"
    found = await_that(
        lambda: rig.resources(identity)["it"]["resource_status"] == "FAILED" and rig.resources(identity)["it"],
        "the resource's end",
    )
    assert found["resource_status_reason"] == (
        f'CREATE aborted (Task create from TestResource "it" Stack "late" [{identity["stack_id"]}] Timed out)'
    )


def test_suspend_and_resume_visit_every_resource_in_their_order(rig):
    identity = rig.made("sleepy", hot(base="x", user=probe("base")))
    rig.call("stack_suspend", stack_identity=identity)
    rig.ended(identity, "SUSPEND")
    with pytest.raises(heat.NotSupported, match="Updating a stack when it is suspended is not supported"):
        rig.update(identity, hot(base="y"))
    rig.call("stack_resume", stack_identity=identity)
    assert rig.ended(identity, "RESUME")["stack_status"] == "COMPLETE"
    completed = [event.split(":")[0] for event in rig.events(identity) if "COMPLETE" in event][3:]
    assert completed == [
        "user SUSPEND_COMPLETE",
        "base SUSPEND_COMPLETE",
        "sleepy SUSPEND_COMPLETE",
        "base RESUME_COMPLETE",
        "user RESUME_COMPLETE",
        "sleepy RESUME_COMPLETE",
    ]
    # what is resumed already is left alone
    seen = rig.events(identity)
    rig.call("stack_resume", stack_identity=identity)
    assert rig.events(identity) == seen


def test_suspend_passes_by_what_a_failed_update_left_behind(rig):
    config = {"type": "OS::Heat::SoftwareConfig", "properties": {"config": "x"}}
    identity = rig.made("used", hot(kept="x", used=config))
    config_id = rig.resources(identity)["used"]["physical_resource_id"]
    rig.call("create_software_deployment", server_id="s", config_id=config_id)
    rig.update(identity, hot(kept="x"))
    assert rig.ended(identity)["stack_status"] == "FAILED"
    rig.call("stack_suspend", stack_identity=identity)
    assert rig.ended(identity, "SUSPEND")["stack_status"] == "COMPLETE"
    assert rig.resource_states(identity) == {"kept": "SUSPEND_COMPLETE", "used": "DELETE_FAILED"}


def test_what_was_never_made_is_not_said_to_be_there(rig):
    template = hot(bad=probe(fail=True), user=probe("bad"))
    identity = rig.create("half", template)
    rig.ended(identity)
    rig.call("stack_snapshot", stack_identity=identity, name=None)
    assert rig.ended(identity, "SNAPSHOT")["stack_status"] == "COMPLETE"
    assert rig.resource_states(identity) == {"bad": "CREATE_FAILED", "user": "INIT_COMPLETE"}
    cut = rig.create("cut", hot(base=probe(wait_secs=0.1), user=probe("base")))
    rig.call("stack_cancel_update", stack_identity=cut, cancel_with_rollback=False)
    rig.call("stack_suspend", stack_identity=cut)
    told = "Resource SUSPEND failed: Error: resources.user: State ('INIT', 'COMPLETE') invalid for suspend"
    assert rig.ended(cut, "SUSPEND")["stack_status_reason"] == told
    assert rig.resource_states(cut)["user"] == "INIT_COMPLETE"


def test_a_function_that_objects_to_a_living_value_fails_its_resource(rig):
    def template(value):
        given = {"type": "OS::Heat::Value", "properties": {"value": value}}
        return hot(given=given, user=probe(value={"str_split": [",", {"get_attr": ["given", "value"]}, 0]}))

    identity = rig.create("bad", template({"a": 1}))
    told = 'ValueError: resources.user: Incorrect arguments to "str_split" should be'
    assert rig.ended(identity)["stack_status_reason"].startswith(f"Resource CREATE failed: {told}")
    assert rig.resource_states(identity)["user"] == "CREATE_FAILED"
    rig.update(identity, template("a,b"))
    assert rig.ended(identity)["stack_status"] == "COMPLETE"
    # a resource that is there already stays as it is
    rig.update(identity, template({"a": 1}))
    assert rig.ended(identity)["stack_status_reason"].startswith(f"Resource UPDATE failed: {told}")
    assert rig.resource_states(identity)["user"] == "CREATE_COMPLETE"
    assert rig.resources(identity)["user"]["attributes"] == {"output": "a"}


def test_check_says_what_it_could_not_check(rig):
    identity = rig.made("checked", hot(it="x", other=random_string()))
    rig.call("stack_check", stack_identity=identity)
    assert rig.ended(identity, "CHECK")["stack_status_reason"] == (
        "Stack CHECK completed successfully. 'CHECK' not fully supported (see resources)"
    )
    assert (
        rig.resources(identity)["other"]["resource_status_reason"] == "CHECK not supported for OS::Heat::RandomString"
    )


def test_check_fails_for_what_was_never_made_and_passes_its_users_by(rig):
    identity = rig.create("unchecked", hot(base=probe(fail=True), user=probe("base"), apart="x"))
    rig.ended(identity)
    await_that(lambda: rig.resource_states(identity)["apart"] == "CREATE_COMPLETE", "the end of the other resource")
    rig.call("stack_check", stack_identity=identity)
    assert rig.ended(identity, "CHECK")["stack_status_reason"] == (
        "Resource CHECK failed: base: Resource CHECK failed: Exception: resources.base: Resource not created"
    )
    assert rig.resource_states(identity) == {
        "base": "CHECK_FAILED",
        "user": "INIT_COMPLETE",
        "apart": "CHECK_COMPLETE",
    }


def test_snapshot_and_restore(rig):
    identity = rig.made("kept", hot(it="first"))
    snapshot = rig.call("stack_snapshot", stack_identity=identity, name="before")
    assert (snapshot["name"], snapshot["status"]) == ("before", "IN_PROGRESS")
    rig.ended(identity, "SNAPSHOT")
    stored = rig.call("show_snapshot", stack_identity=identity, snapshot_id=snapshot["id"])
    assert stored["status"] == "COMPLETE"
    assert stored["data"]["resources"]["it"]["resource_data"] == {"value": "first"}
    rig.update(identity, hot(it="second", more="x"))
    rig.ended(identity, "UPDATE")
    rig.call("stack_restore", stack_identity=identity, snapshot_id=snapshot["id"])
    assert rig.ended(identity, "RESTORE")["stack_status"] == "COMPLETE"
    assert {name: found["attributes"] for name, found in rig.resources(identity).items()} == {"it": {"output": "first"}}
    assert [found["id"] for found in rig.call("stack_list_snapshots", stack_identity=identity)] == [snapshot["id"]]
    rig.call("delete_snapshot", stack_identity=identity, snapshot_id=snapshot["id"])
    with pytest.raises(heat.NotFound):
        rig.call("show_snapshot", stack_identity=identity, snapshot_id=snapshot["id"])


def test_a_snapshot_that_another_operation_cuts_off_has_failed(rig):
    identity = rig.made("cut", hot(it="a"))
    rig.update(identity, hot(it=probe(value="b", action_wait_secs={"update": -1})))
    await_that(lambda: rig.resource_states(identity)["it"] == "UPDATE_IN_PROGRESS", "the update")
    rig.call("stack_cancel_update", stack_identity=identity, cancel_with_rollback=False)
    # the resource is still busy, so these wait for it
    cut_off = [rig.call("stack_snapshot", stack_identity=identity, name="s")["id"]]
    rig.update(identity, hot(it="c"))
    rig.call("stack_cancel_update", stack_identity=identity, cancel_with_rollback=False)
    cut_off.append(rig.call("stack_snapshot", stack_identity=identity, name="t")["id"])
    rig.engine._core.operations.stop(identity["stack_id"])
    for snapshot_id in cut_off:
        shown = rig.call("show_snapshot", stack_identity=identity, snapshot_id=snapshot_id)
        assert shown["status"] == "FAILED"
        rig.call("delete_snapshot", stack_identity=identity, snapshot_id=snapshot_id)
    rig.call("delete_stack", stack_identity=identity)
    assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"


def test_a_hook_holds_the_resource_until_it_is_cleared(rig):
    registry = {"resource_registry": {"resources": {"it": {"hooks": "pre-create"}}}}
    identity = rig.create("held", hot(it="x"), params=registry)
    paused = "it INIT_COMPLETE: CREATE paused until Hook pre-create is cleared"
    await_that(lambda: paused in rig.events(identity), "the pause")
    with pytest.raises(heat.InvalidBreakPointHook, match='The "pre-update" hook is not defined on TestResource "it"'):
        signal(rig, identity, "pre-update")
    signal(rig, identity, "pre-create")
    assert rig.ended(identity)["stack_status"] == "COMPLETE"
    assert "it INIT_COMPLETE: Hook pre-create is cleared" in rig.events(identity)


def signal(rig, identity, hook):
    rig.call("resource_signal", stack_identity=identity, resource_name="it", details={"unset_hook": hook})


def test_restricted_actions_are_refused(rig):
    def environment(actions):
        return {"resource_registry": {"resources": {"it": {"restricted_actions": actions}}}}

    identity = rig.made("fixed", hot(it="old"))
    rig.update(identity, hot(it="new"), params=environment("update"))
    assert rig.ended(identity, "UPDATE")["stack_status_reason"] == (
        "Resource UPDATE failed: ResourceActionRestricted: resources.it: update is restricted for resource."
    )
    assert rig.resources(identity)["it"]["attributes"] == {"output": "old"}


def test_marked_as_unhealthy_it_is_replaced(rig):
    identity = rig.made("sick", hot(it="x"))
    before = rig.resources(identity)["it"]["physical_resource_id"]
    mark = {"stack_identity": identity, "resource_name": before, "mark_unhealthy": True}
    rig.call("resource_mark_unhealthy", **mark, resource_status_reason="looks pale")
    assert rig.resources(identity)["it"]["resource_status_reason"] == "looks pale"
    rig.update(identity, hot(it="x"))
    assert rig.ended(identity, "UPDATE")["stack_status"] == "COMPLETE"
    assert rig.resources(identity)["it"]["physical_resource_id"] != before


def test_a_disk_that_fills_up_fails_the_operation_and_harms_nothing_else(rig):
    safe = rig.made("safe", hot(it="x"))
    store = rig.engine._core.store
    identity = rig.create("unlucky", hot(it=probe(wait_secs=0.1)))
    await_that(lambda: rig.resource_states(identity).get("it") == "CREATE_IN_PROGRESS", "the create")
    with store.transaction():
        store._writer.execute(f"PRAGMA max_page_count = {store._writer.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(heat.Error, match="cannot keep its state: .*full"):
        for number in range(50):
            rig.create(f"one-more-{number}", {**hot(it="x"), "description": "x" * 5000})
    assert rig.resource_states(safe) == {"it": "CREATE_COMPLETE"}
    with store.transaction():
        store._writer.execute("PRAGMA max_page_count = 1000000")
    assert rig.ended(identity)["stack_status"] in ("COMPLETE", "FAILED")
    assert "IN_PROGRESS" not in rig.resource_states(identity)["it"]
    rig.call("delete_stack", stack_identity=identity)
    assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"


def test_a_failure_that_could_not_be_stored_at_once_is_rolled_back_too(rig, monkeypatch):
    identity = rig.made("late", hot(it="a"))
    operations = rig.engine._core.operations
    record_end = operations._record_end
    full = iter([True, True])

    def with_a_full_disk(*arguments):
        if next(full, False):
            raise StoreUnwritable("full")
        record_end(*arguments)

    monkeypatch.setattr("heatperf.engine.operations._RETRY", 0.01)
    monkeypatch.setattr(operations, "_record_end", with_a_full_disk)
    rig.update(identity, hot(it="a", more=probe(fail=True)), disable_rollback=False)
    assert rig.ended(identity, "ROLLBACK")["stack_status"] == "COMPLETE"
    assert rig.resource_states(identity).keys() == {"it"}


def test_what_clients_send_cannot_keep_an_operation_from_ending(rig):
    # half a surrogate pair, which JSON allows, in what becomes a reason; and a time that no clock can wait for
    identity = rig.create("odd", hot(**{"half\ud800": probe(fail=True)}), timeout_mins=10**15)
    assert rig.ended(identity)["stack_status"] == "FAILED"
    rig.call("delete_stack", stack_identity=identity)
    assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"


def do_anything(rig, rng, identity, turn):
    """One call of any kind to a stack."""
    waiting = probe(value=str(turn), action_wait_secs={"update": rng.choice([0, 0.02])})
    other = random_string(length=rng.randrange(1, 5))
    method = rng.choice(
        [
            "update",
            "update",
            "stack_check",
            "stack_suspend",
            "stack_resume",
            "stack_cancel_update",
            "stack_snapshot",
            "list_stack_resources",
            "resource_mark_unhealthy",
        ]
    )
    arguments = {
        "stack_snapshot": {"name": "s"},
        "resource_mark_unhealthy": {"resource_name": "it", "mark_unhealthy": True},
        "list_stack_resources": {"with_detail": True},
    }
    if method == "update":
        it = rng.choice([waiting, other])
        rig.update(identity, hot(it=it, user=probe("it", fail=rng.random() < 0.2), more="x"))
    else:
        rig.call(method, stack_identity=identity, **arguments.get(method, {}))


def test_many_callers_at_once_leave_every_stack_in_a_state_of_rest(rig):
    """Everybody does anything to the same few stacks; each call works or is refused, and all operations end."""
    identities = [rig.made(f"shared-{number}", hot(it="x", user=probe("it"))) for number in range(3)]
    unexpected = []

    def be_busy(seed):
        rng = random.Random(seed)
        for turn in range(12):
            try:
                do_anything(rig, rng, rng.choice(identities), turn)
            except heat.HeatError:
                pass
            except Exception as error:
                unexpected.append(error)

    def at_rest(identity):
        return not any(state.endswith("IN_PROGRESS") for state in rig.resource_states(identity).values())

    seed = random.randrange(10**6)
    print("seed", seed)
    callers = [threading.Thread(target=be_busy, args=(f"{seed}-{number}",)) for number in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not unexpected
    for identity in identities:
        rig.ended(identity)
        await_that(functools.partial(at_rest, identity), "the end of what the last operation left running")
        rig.call("delete_stack", stack_identity=identity)
    for identity in identities:
        assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"
    # nothing of a stack is kept in memory once it rests
    await_that(lambda: not rig.engine._core.operations._controls, "forgetting")
