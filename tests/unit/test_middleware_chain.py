from orchestrator.middleware.chain import Middleware, compose


def marker(name: str, log: list[str]) -> Middleware:
    async def middleware(state, call_next):
        log.append(f"{name} before")
        update = await call_next(state)
        log.append(f"{name} after")
        return update

    return middleware


async def test_the_first_middleware_is_the_outermost():
    log: list[str] = []

    async def node(state):
        log.append("node")
        return {"seen": state}

    chain = compose([marker("a", log), marker("b", log), marker("c", log)], node)
    assert await chain("state") == {"seen": "state"}
    assert log == ["a before", "b before", "c before", "node", "c after", "b after", "a after"]


async def test_a_middleware_may_answer_without_the_node():
    log: list[str] = []

    async def short_circuit(_state, _call_next):
        return {"v": "short"}

    async def node(_state):
        raise AssertionError("the node must not run")

    assert await compose([marker("a", log), short_circuit], node)("state") == {"v": "short"}
    assert log == ["a before", "a after"]


async def test_a_middleware_may_change_state_and_update():
    async def louder(state, call_next):
        return {**await call_next(state.upper()), "more": 1}

    async def node(state):
        return {"seen": state}

    assert await compose([louder], node)("abc") == {"seen": "ABC", "more": 1}


async def test_no_middleware_is_the_node_itself():
    async def node(state):
        return {}

    assert compose([], node) is node
