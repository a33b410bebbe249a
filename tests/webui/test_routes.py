import base64
import io
import json

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from imagereward_ext.webui.api import pictures, routes
from tests.hosting import encoded
from tests.tiny import picture
from tests.webui.services import make_service

SCORE = "/imagereward/v1/score"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(service):
    app = FastAPI()
    routes.add(app, service)
    return TestClient(app)


def refused(response, status, says):
    assert response.status_code == status, response.text
    assert says in response.json()["detail"]
    return True


def test_one_prompt_for_all_or_one_for_each(client):
    images = [encoded(picture(n)) for n in range(3)]
    one = client.post(SCORE, json={"images": images, "prompts": "a red fox"}).json()
    each = client.post(SCORE, json={"images": images, "prompts": ["a red fox"] * 3}).json()
    assert one == each and len(one["scores"]) == 3
    assert one["scorer"] == "ImageReward" and len(one["hash"]) == 10


def test_half_a_letter_in_a_prompt_is_scored(client):
    body = json.dumps({"images": [encoded(picture())], "prompts": "\ud800 cat"})
    answer = client.post(SCORE, content=body, headers=JSON)
    assert answer.status_code == 200
    assert len(answer.json()["scores"]) == 1


def test_a_text_too_long_to_be_read_is_refused(client):
    info = PngInfo()
    info.add_text("parameters", "x" * 200_000)
    image = io.BytesIO()
    picture().save(image, "PNG", pnginfo=info)
    body = {"images": [base64.b64encode(image.getvalue()).decode()]}
    assert refused(client.post(SCORE, json=body), 422, "200,000 characters; more than 131,072 are not read")


def test_a_data_url_is_fine(client):
    plain = client.post(SCORE, json={"images": [encoded(picture())], "prompts": "a"}).json()
    url = client.post(
        SCORE, json={"images": ["data:image/png;base64," + encoded(picture())], "prompts": "a"}
    ).json()
    assert plain == url


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "must look like"),
        ([], "must look like"),
        ({"images": [], "prompts": "a"}, "give 1 to 64"),
        ({"images": ["x"] * 65, "prompts": "a"}, "give 1 to 64"),
        ({"images": ["%%%"], "prompts": "a"}, "image 1 is no base64"),
        ({"images": [5], "prompts": "a"}, "image 1 is no base64"),
        ({"images": ["aGVsbG8="], "prompts": "a"}, "image 1 cannot be read"),
        ({"images": ["aGVsbG8="], "prompts": 5}, "prompts must be"),
        ({"images": ["aGVsbG8="], "prompts": ["a", 5]}, "prompts must be"),
        ({"images": ["aGVsbG8="], "prompts": ["a", "b"]}, "images: 1, prompts: 2"),
        ({"images": ["aGVsbG8="], "prompts": ["a"], "path": "/etc/passwd"}, "path is unknown"),
        ({"images": ["aGVsbG8="], "prompts": "a" * 20_001}, "20000 characters"),
        ({"images": ["aGVsbG8="], "prompts": "a", "scorer": 5}, "scorer must be"),
    ],
)
def test_a_wrong_body_is_refused_with_a_reason(client, body, says):
    content = (
        body
        if isinstance(body, list) or body.get("images") != ["x"] * 65
        else {**body, "images": ["eA=="] * 65}
    )
    assert refused(client.post(SCORE, json=content), 422, says)


@pytest.mark.parametrize("content", [b"\x00{", b"[" * 100_000])
def test_no_json_at_all(client, content):
    assert refused(client.post(SCORE, content=content, headers=JSON), 422, "no JSON")


@pytest.mark.parametrize("scorer", ["/etc/passwd", "../tiny", "models/ImageReward/tiny", "nobody"])
def test_a_scorer_is_a_name_and_never_a_path(client, scorer):
    body = {"images": [encoded(picture())], "prompts": "a", "scorer": scorer}
    assert refused(client.post(SCORE, json=body), 422, "no scorer is called")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(client):
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    body = {"images": [base64.b64encode(buffer.getvalue()).decode()], "prompts": "a"}
    assert refused(client.post(SCORE, json=body), 422, "10,000 x 10,000")


def test_many_pixels_in_small_files_are_refused_before_any_is_decoded(client, monkeypatch):
    body = {"images": [encoded(picture(n)) for n in range(4)], "prompts": "a"}
    monkeypatch.setattr(pictures, "MOST_PIXELS_TOGETHER", 3 * 48 * 40)
    loaded = []
    monkeypatch.setattr(PngImageFile, "load", loaded.append)
    assert refused(client.post(SCORE, json=body), 422, "million pixels together") and not loaded


@pytest.mark.parametrize("error", [IndexError, OverflowError, MemoryError])
def test_whatever_a_decoder_raises_the_image_is_named(client, monkeypatch, error):
    content = encoded(picture())

    def load(self):
        raise error("somewhere deep")

    monkeypatch.setattr(PngImageFile, "load", load)
    assert refused(
        client.post(SCORE, json={"images": [content], "prompts": "a"}), 422, "image 1 cannot be read"
    )


def test_a_request_that_is_too_large_is_refused(client, monkeypatch):
    monkeypatch.setattr(routes, "MOST_BYTES", 1000)
    assert refused(client.post(SCORE, json={"images": ["a" * 2000], "prompts": "a"}), 413, "larger")
    files = [("images", ("a.png", b"x" * 2000, "image/png"))]
    assert refused(client.post(SCORE, files=files, data={"prompts": "a"}), 413, "larger")


def test_uploaded_files(client):
    files = [("images", ("a.png", base64.b64decode(encoded(picture(n))), "image/png")) for n in range(2)]
    by_file = client.post(SCORE, files=files, data={"prompts": "a red fox"}).json()
    by_text = client.post(
        SCORE, json={"images": [encoded(picture(n)) for n in range(2)], "prompts": "a red fox"}
    ).json()
    assert by_file == by_text


def test_a_scorer_that_cannot_load_is_503(client, service):
    (service.folder() / "tiny" / "model.safetensors").unlink()
    response = client.post(SCORE, json={"images": [encoded(picture())], "prompts": "a"})
    assert response.status_code == 503 and "model.safetensors" in response.json()["detail"]


def test_models_unload_and_version(client):
    assert client.get("/imagereward/v1/models").json()["default"] == "tiny"
    assert client.get("/imagereward/v1/models").json()["loaded"] is None
    client.post(SCORE, json={"images": [encoded(picture())], "prompts": "a"})
    assert client.get("/imagereward/v1/models").json()["loaded"]["name"] == "tiny"
    assert "free again" in client.post("/imagereward/v1/unload").json()["message"]
    assert set(client.get("/imagereward/v1/version").json()) == {"version"}


def test_credentials_are_those_of_the_webui(tmp_path):
    app = FastAPI()
    routes.add(app, make_service(tmp_path, api_auth="someone:sec:ret,other:pass"))
    client = TestClient(app)
    for method, path in (("GET", "models"), ("GET", "version"), ("POST", "unload"), ("POST", "score")):
        url = f"/imagereward/v1/{path}"
        assert client.request(method, url).status_code == 401
        assert client.request(method, url, auth=("someone", "wrong")).status_code == 401
        assert client.request(method, url, auth=("nobody", "pass")).status_code == 401
    assert client.get("/imagereward/v1/version", auth=("someone", "sec:ret")).status_code == 200
    assert client.get("/imagereward/v1/version", auth=("other", "pass")).status_code == 200


def test_accounts_that_cannot_be_read_let_nobody_in(tmp_path):
    app = FastAPI()
    routes.add(app, make_service(tmp_path, api_auth="someone"))
    client = TestClient(app)
    assert client.get("/imagereward/v1/version").status_code == 401
    assert client.get("/imagereward/v1/version", auth=("someone", "")).status_code == 401


def test_adding_twice_adds_once(client, service):
    count = len(client.app.routes)
    routes.add(client.app, service)
    assert len(client.app.routes) == count


def test_the_schema_documents_both_ways_in(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {path.rsplit("/", 1)[1] for path in paths} == {"score", "models", "unload", "version"}
    content = paths[SCORE]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}


def with_text(text):
    buffer = io.BytesIO()
    pnginfo = PngInfo()
    pnginfo.add_text("parameters", text)
    picture().save(buffer, "PNG", pnginfo=pnginfo)
    return base64.b64encode(buffer.getvalue()).decode()


def test_an_image_without_a_prompt_is_scored_for_its_own(client):
    images = [with_text("a (red:1.2) fox\nSteps: 2, Seed: 7, Size: 64x64"), encoded(picture())]
    given = client.post(SCORE, json={"images": images, "prompts": ["a red fox", "a sea"]}).json()
    assert client.post(SCORE, json={"images": images, "prompts": ["", "a sea"]}).json() == given
    alone = client.post(SCORE, json={"images": images[:1], "prompts": "a red fox"}).json()
    assert client.post(SCORE, json={"images": images[:1]}).json() == alone
    files = [("images", ("a.png", base64.b64decode(images[0]), "image/png"))]
    assert client.post(SCORE, files=files).json() == alone


@pytest.mark.parametrize("more", [{}, {"prompts": ""}, {"prompts": ["a", " "]}])
def test_an_image_without_any_prompt_is_refused(client, more):
    images = [with_text("a fox\nSteps: 2, Seed: 7, Size: 64x64"), encoded(picture())]
    assert refused(client.post(SCORE, json={"images": images, **more}), 422, "image 2 holds no prompt")


def test_the_settings_text_is_scored_where_no_prompt_is_given(client, service):
    expected = client.post(SCORE, json={"images": [encoded(picture())], "prompts": "the sea"}).json()
    service.host.options["imagereward_text"] = "the sea"
    assert client.post(SCORE, json={"images": [encoded(picture())]}).json() == expected


def test_a_file_that_is_no_image_is_told_in_plain_words(client):
    response = client.post(SCORE, json={"images": ["aGVsbG8="], "prompts": "a"})
    assert response.json()["detail"] == "image 1 cannot be read: it is in no known image format"
