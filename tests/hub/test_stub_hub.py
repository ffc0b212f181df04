"""The stub Hub answers as the real client expects."""

from __future__ import annotations

import io

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = "---\nlicense: mit\n---\n# A model\n"


@pytest.fixture
def api(hub):
    return HfApi()


@pytest.fixture
def model(hub):
    return hub.repo("me/model", {"README.md": CARD})


def add(**contents):
    return [
        CommitOperationAdd(path.replace("__", "."), content) for path, content in contents.items()
    ]


def commit(api, repo_id="me/model", message="Test", operations=None, **options):
    operations = operations or [CommitOperationAdd("a.txt", b"a")]
    return api.create_commit(repo_id, operations, commit_message=message, **options)


def status_of(error):
    return error.value.response.status_code


def test_whoami(hub, api):
    said = api.whoami()
    assert (said["name"], said["auth"]["accessToken"]["role"]) == ("me", "write")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")


def test_a_commit(hub, api, model):
    operations = [CommitOperationAdd("README.md", f"{CARD}More\n".encode())]
    operations += [CommitOperationAdd("ess/report.json", b"{}")]
    landed = commit(api, operations=operations, message="Two files")
    assert landed.oid == model.head()
    assert landed.commit_url == f"{hub.url}/me/model/commit/{model.head()}"
    newest = model.commits[-1]
    assert (newest.author, newest.message) == ("me", "Two files")
    assert newest.changed == ("README.md", "ess/report.json")
    assert model.files()["README.md"].endswith(b"More\n")
    assert [each.commit_id for each in api.list_repo_commits("me/model")] == [
        each.oid for each in model.history()
    ]


def test_what_is_there_is_not_committed_again(api, model):
    operations = [CommitOperationAdd("README.md", CARD.encode())]
    assert commit(api, operations=operations).oid == model.head()
    assert len(model.commits) == 2


def test_files_are_deleted(api, model):
    model.write("folder/a.txt", b"a")
    model.write("folder/b.txt", b"b")
    commit(api, operations=[CommitOperationDelete("README.md"), CommitOperationDelete("folder/")])
    assert list(model.files()) == [".gitattributes"]
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        commit(api, operations=[CommitOperationDelete("README.md")])


def test_a_stale_parent(api, model):
    before = model.head()
    model.write("README.md", b"theirs")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        commit(api, parent_commit=before)
    assert status_of(error) == 412
    assert model.files()["README.md"] == b"theirs"
    assert commit(api, parent_commit=model.head()).oid == model.head()


def test_pull_requests(hub, api, model):
    main = model.head()
    opened = commit(api, create_pr=True, message="Proposal")
    assert (opened.pr_num, opened.pr_revision) == (1, "refs/pr/1")
    assert opened.pr_url == f"{hub.url}/me/model/discussions/1"
    assert model.head() == main
    assert model.head("refs/pr/1") == opened.oid
    commit(api, revision="refs/pr/1", operations=[CommitOperationAdd("b.txt", b"b")])
    assert model.files("refs/pr/1").keys() - model.files().keys() == {"a.txt", "b.txt"}
    details = api.get_discussion_details("me/model", 1)
    assert (details.title, details.status, details.author) == ("Proposal", "open", "me")
    assert [event.type for event in details.events] == ["comment", "commit", "commit"]
    api.merge_pull_request("me/model", 1)
    assert model.files() == model.files("refs/pr/1")
    assert model.pull_requests[0].status == "merged"


def test_a_pull_request_from_an_older_commit(api, model):
    older = model.head()
    model.write("README.md", b"theirs")
    commit(api, create_pr=True, parent_commit=older)
    assert model.files("refs/pr/1")["README.md"] == CARD.encode()


def test_discussions_are_listed(hub, api, model):
    other = hub.user("other")
    for number in range(12):
        commit(api, create_pr=True, message=f"Proposal {number}")
    commit(api, create_pr=True, token=other.token)
    api.create_discussion("me/model", "A question")
    api.change_discussion_status("me/model", 3, "closed")
    model.merge(5)

    def listed(**wanted):
        return [each.num for each in api.get_repo_discussions("me/model", **wanted)]

    assert listed() == list(range(14, 0, -1))
    assert listed(author="other") == [13]
    assert listed(discussion_type="discussion") == [14]
    assert listed(author="me", discussion_type="pull_request", discussion_status="closed") == [5, 3]
    assert len(listed(author="me", discussion_type="pull_request", discussion_status="open")) == 10


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_infos(hub, api, kind):
    repo = hub.repo(f"me/{kind}", {"README.md": CARD, "a.bin": b"\0" * 5}, repo_type=kind)
    old = repo.head()
    repo.write("b.txt", b"b")
    said = api.repo_info(f"me/{kind}", repo_type=kind, files_metadata=True)
    assert (said.sha, said.private, said.gated) == (repo.head(), False, False)
    sizes = {each.rfilename: (each.size, each.lfs is not None) for each in said.siblings}
    assert sizes["a.bin"] == (5, True)
    assert sizes["b.txt"] == (1, False)
    assert said.card_data.license == "mit"
    assert api.repo_info(f"me/{kind}", repo_type=kind, revision=old).sha == old
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(f"me/{kind}", repo_type="model" if kind != "model" else "space")


def test_branches(api, model):
    api.create_branch("me/model", branch="next/version")
    commit(api, revision="next/version")
    assert model.head("next/version") != model.head()
    found = api.list_repo_refs("me/model", include_pull_requests=True)
    assert {each.name: each.target_commit for each in found.branches} == {
        "main": model.head(),
        "next/version": model.head("next/version"),
    }


@pytest.mark.parametrize("large", [False, True])
def test_downloads(hub, api, model, large):
    content = b"\1" * 3_000_000
    model.write("folder/a.npz" if large else "folder/a.txt", content)
    path = "folder/a.npz" if large else "folder/a.txt"
    with open(hf_hub_download("me/model", path), "rb") as file:
        assert file.read() == content
    assert hf_hub_download("me/model", path).startswith(constants.HF_HUB_CACHE)
    stored = hub.asked("GET", "/stored/")
    assert len(stored) == large
    assert all(each.authorization is None for each in stored)


def test_a_download_goes_on_where_it_broke(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    content = bytes(range(256)) * 8000
    model.write("a.npz", content)
    broken = hub.drop("GET", "/stored/", "answering")
    with open(hf_hub_download("me/model", "a.npz"), "rb") as file:
        assert file.read() == content
    first, second = hub.asked("GET", "/stored/")
    assert broken.hits == [first]
    assert second.range is not None


@pytest.mark.parametrize("buffered", [False, True])
def test_large_files(hub, api, model, buffered):
    content = b"x" * 11_000_000
    given = io.BytesIO(content) if buffered else content
    commit(api, operations=[CommitOperationAdd("big.txt", given)])
    file = model.tree()["big.txt"]
    assert (file.content, file.lfs) == (content, True)
    (uploaded,) = hub.asked("PUT")
    assert uploaded.authorization is None
    commit(api, operations=[CommitOperationAdd("same.txt", content)])
    assert model.files()["same.txt"] == content
    assert hub.asked("PUT") == [uploaded]
    commit(api, operations=[CommitOperationAdd("big.txt", content)])
    assert len(model.commits) == 4


def test_large_files_in_xet_storage(hub, xet, api, model):
    content = bytes(range(256)) * 50_000
    operations = [CommitOperationAdd("a.npz", content), CommitOperationAdd("b.npz", b"b")]
    commit(api, operations=operations)
    assert model.files()["a.npz"] == content
    assert model.files()["b.npz"] == b"b"
    assert not hub.asked("PUT")
    commit(api, operations=[CommitOperationAdd("c.npz", b"c")], create_pr=True)
    assert model.files("refs/pr/1")["c.npz"] == b"c"
    with open(hf_hub_download("me/model", "a.npz"), "rb") as file:
        assert file.read() == content
    assert hub.asked("GET", "/xet-read-token/")
    assert not hub.asked("GET", "/stored/")


def test_binary_files_are_large_ones(api, model):
    operations = [CommitOperationAdd("a.png", b"\x89PNG\0"), CommitOperationAdd("a.npz", b"PK")]
    commit(api, operations=operations)
    assert {path for path, file in model.tree().items() if file.lfs} == {"a.png", "a.npz"}


def test_ignored_files(api, model):
    model.write(".gitignore", b"*.png\n")
    operations = [CommitOperationAdd("ess/a.png", b"png"), CommitOperationAdd("a.txt", b"a")]
    commit(api, operations=operations)
    assert model.commits[-1].changed == ("a.txt",)


def test_trees(api, model):
    for path in ("ess/report.json", "ess/arrays/a.npz", "b.txt"):
        model.write(path, b"content")

    def paths(**options):
        return [each.path for each in api.list_repo_tree("me/model", **options)]

    assert paths() == [".gitattributes", "README.md", "b.txt", "ess"]
    assert paths(path_in_repo="ess") == ["ess/arrays", "ess/report.json"]
    assert paths(path_in_repo="ess", recursive=True) == [
        *("ess/arrays", "ess/arrays/a.npz", "ess/report.json")
    ]
    found = api.get_paths_info("me/model", ["ess/report.json", "nothing", "ess/arrays/a.npz"])
    assert [(each.path, each.lfs is not None) for each in found] == [
        ("ess/report.json", False),
        ("ess/arrays/a.npz", True),
    ]
    with pytest.raises(EntryNotFoundError):
        paths(path_in_repo="nothing")


def test_repositories_are_made(hub, api):
    assert str(api.create_repo("me/new", private=True)) == f"{hub.url}/me/new"
    assert hub.repos["me/new"].private
    assert list(hub.repos["me/new"].files()) == [".gitattributes"]
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("me/new")
    assert status_of(error) == 409
    assert api.create_repo("me/new", exist_ok=True).repo_id == "me/new"
    api.create_repo("data", repo_type="dataset")
    assert "datasets/me/data" in hub.repos
    with pytest.raises(HfHubHTTPError, match="under the namespace") as error:
        api.create_repo("team/model")
    assert status_of(error) == 403


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("license: mit\nlanguage: no\ntags: [a, b]\n", None),
        ("a: [1\n", "YAML Metadata Error"),
        ("a: 1\na: 2\n", "duplicated mapping key"),
        ("a:\t- 1\n\tb: 2\n", "YAML Metadata Error"),
        ("tags: {a: b}\n", '"tags" must be an array'),
        ("language: [true]\n", '"language\\[0\\]" must be a string'),
        ("model-index: {}\n", '"model-index" must be an array'),
        ("model-index: [{results: []}]\n", '"model-index\\[0\\].name" is required'),
        ("model-index: [{name: a}]\n", '"model-index\\[0\\].results" is required'),
        (
            "model-index: [{name: a, results: [{task: {}, dataset: {name: b}, metrics: [{}]}]}]\n",
            r'"model-index\[0\].results\[0\].task.type" is required\n'
            r'- "model-index\[0\].results\[0\].dataset.type" is required\n'
            r'- "model-index\[0\].results\[0\].metrics\[0\].type" is required\n'
            r'- "model-index\[0\].results\[0\].metrics\[0\].value" is required',
        ),
    ],
)
def test_metadata_is_checked(hub, api, model, metadata, said):
    operations = [CommitOperationAdd("README.md", f"---\n{metadata}---\n# A\n".encode())]
    if said is None:
        assert commit(api, operations=operations).oid == model.head()
        return
    with pytest.raises(ValueError, match=said):
        commit(api, operations=operations)
    assert len(model.commits) == 2


def test_missing_metadata_is_only_warned_of(api, model):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        commit(api, operations=[CommitOperationAdd("README.md", b"# A\n")])
    assert model.files()["README.md"] == b"# A\n"


@pytest.mark.parametrize("token", [None, False])
def test_missing_repositories(api, token):
    with pytest.raises(RepositoryNotFoundError) as error:
        api.model_info("me/nothing", token=token)
    assert status_of(error) == (401 if token is False else 404)
    with pytest.raises(RepositoryNotFoundError):
        commit(api, "me/nothing", token=token)


def test_private_repositories(hub, api):
    hub.repo("me/hidden", {"a.txt": "a"}, private=True)
    other = hub.user("other")
    assert api.model_info("me/hidden").private
    for token in (other.token, False):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("me/hidden", token=token)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("me/hidden", "a.txt", token=token)


def test_missing_files_and_revisions(api, model):
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("me/model", "nothing.txt")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("me/model", "README.md", revision="nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("me/model", revision="refs/pr/7")
    with pytest.raises(RevisionNotFoundError):
        commit(api, revision="nothing")


def test_gated_repositories(hub, api):
    repo = hub.repo("team/gated", {"README.md": CARD}, gated="manual")
    assert api.model_info("team/gated").gated == "manual"
    for token, status in ((None, 403), (False, 401)):
        with pytest.raises(GatedRepoError) as error:
            hf_hub_download("team/gated", "README.md", token=token)
        assert status_of(error) == status
    with pytest.raises(GatedRepoError):
        commit(api, "team/gated", create_pr=True)
    repo.granted.add("me")
    assert commit(api, "team/gated", create_pr=True).pr_num == 1


@pytest.mark.parametrize(
    ("role", "scopes", "said"),
    [
        ("read", (), "you must use a write token"),
        ("fineGrained", (), "lacks the permission"),
        ("fineGrained", ("me/model",), None),
    ],
)
def test_tokens_that_may_less(hub, api, model, role, scopes, said):
    token = hub.user("me", role=role, scopes=scopes).token
    assert api.whoami(token=token)["auth"]["accessToken"]["role"] == role
    if said is None:
        assert commit(api, token=token).oid == model.head()
        return
    for create_pr in (False, True):
        with pytest.raises(HfHubHTTPError, match=said) as error:
            commit(api, token=token, create_pr=create_pr)
        assert status_of(error) == 403
    assert len(model.commits) == 2


def test_wrong_tokens(api, model):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        commit(api, token="hf_wrong")
    assert (type(error.value), status_of(error)) == (HfHubHTTPError, 401)


def test_repositories_of_others(hub, api, model):
    other = hub.user("other")
    with pytest.raises(HfHubHTTPError, match="create_pr=1") as error:
        commit(api, token=other.token)
    assert status_of(error) == 403
    assert commit(api, token=other.token, create_pr=True).pr_num == 1
    commit(
        api,
        token=other.token,
        revision="refs/pr/1",
        message="More",
        operations=[CommitOperationAdd("b.npz", b"b")],
    )
    assert model.commits[-1].author == "other"
    api.auth_check("me/model", write=True)
    with pytest.raises(HfHubHTTPError):
        api.auth_check("me/model", write=True, token=other.token)
