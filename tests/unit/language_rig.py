"""Short ways to a bound template for the tests of the engine's language."""

from heatperf.engine import functions
from heatperf.engine.limits import DEFAULT
from heatperf.engine.parameters import ParameterValues
from heatperf.engine.template import StackFacts, Template

#: parameters that most tests of functions can use
PARAMETERS = {
    "text": {"type": "string", "default": "hello"},
    "number": {"type": "number", "default": "7"},
    "list": {"type": "comma_delimited_list", "default": "a,b,c"},
    "map": {"type": "json", "default": {"k": {"x": [1, 2, {"y": "z"}]}}},
    "flag": {"type": "boolean", "default": "yes"},
}


class Attributes:
    """Resources that all have one attribute, ``value``."""

    def get_reference(self, resource_name):
        return f"ref-{resource_name}"

    def attribute_names(self, resource_name):
        return ["value", "show"]

    def get_attr(self, resource_name, path):
        if not path:
            return {"value": {"a": ["deep"]}}
        if path[0] != "value":
            raise KeyError(path[0])
        return functions.select({"a": ["deep"]}, path[1:])


def bind(document, given=None, version="2021-04-16", files=None, limits=DEFAULT, values=True):
    """Return a Bound, after all that comes before it in a request."""
    template = Template.parse({"heat_template_version": version, **document}, files=files, limits=limits)
    template.validate()
    parameters = ParameterValues(template.parameters, given, stack_name="stack", stack_id="id", project_id="project")
    parameters.validate(values)
    return template.bind(parameters, StackFacts("stack", "id", "project"), Attributes())


def value(snippet, version="2021-04-16", **arguments):
    """Return what a snippet resolves to, in a template with PARAMETERS, a resource ``r`` and two conditions."""
    document = {"parameters": PARAMETERS, "resources": {"r": {"type": "OS::Heat::None"}}}
    if version >= "2016-10-14":
        document["conditions"] = {"yes": True, "no": {"equals": [{"get_param": "text"}, "bye"]}}
    document["outputs"] = {"o": {"value": snippet}}
    bound = bind(document, version=version, **arguments)
    bound.validate()
    return bound.output("o").value()
