"""What a run of a playbook came to, as one JSON object on standard output: ansible-core has nothing that programs can read."""

import json

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: told
    type: stdout
    short_description: What changed and what failed, as JSON
    description: For tests/ansible.
"""

KEPT = ("changed", "failed", "msg", "stderr", "diff")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "told"

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.results = []

    def keep(self, result):
        told = result._result
        kept = {"changed": told.get("changed")} if told.get("_ansible_no_log") else {key: told[key] for key in KEPT if key in told}
        self.results.append({"task": result._task.get_name(), "host": result._host.get_name(), **kept})

    def v2_runner_on_ok(self, result):
        self.keep(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        result._result["failed"] = not ignore_errors
        self.keep(result)

    def v2_runner_on_unreachable(self, result):
        result._result["failed"] = True
        self.keep(result)

    def v2_playbook_on_stats(self, stats):
        machines = {machine: stats.summarize(machine) for machine in stats.processed}
        print(json.dumps({"stats": machines, "results": self.results}, default=str))
