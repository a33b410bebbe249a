// What a WebUI's page offers to the scripts of extensions. The names are the contract; everything else is the demo's.

var opts = {};
var uiLoadedCallbacks = [];

function gradioApp() {
    const app = document.querySelector('gradio-app');
    if (!app) return document;
    app.getElementById = (id) => document.getElementById(id);
    return app;
}

function onUiLoaded(callback) { uiLoadedCallbacks.push(callback); }

document.addEventListener('DOMContentLoaded', () => {
    new MutationObserver((_, observer) => {
        if (!gradioApp().querySelector('#txt2img_prompt')) return;
        observer.disconnect();
        for (const callback of uiLoadedCallbacks) {
            try {
                callback();
            } catch (e) {
                console.error('error running callback', callback, e);
            }
        }
    }).observe(gradioApp(), {childList: true, subtree: true});
    setInterval(() => {  // a textarea's value changes without a mutation
        const text = gradioApp().querySelector('#settings_json textarea')?.value;
        if (text) Object.assign(opts, JSON.parse(text));
    }, 250);
});

// ---- galleries

function all_gallery_buttons() {
    const all = gradioApp().querySelectorAll('div[id$=_gallery] .thumbnails > .thumbnail-item.thumbnail-small');
    return Array.from(all).filter((button) => button.offsetParent);
}

function selected_gallery_index() {
    return all_gallery_buttons().findIndex((button) => button.classList.contains('selected'));
}

function extract_image_from_gallery(gallery) {
    if (!gallery || !gallery.length) return [null];
    return [[gallery[Math.min(Math.max(selected_gallery_index(), 0), gallery.length - 1)]]];
}

onUiLoaded(() => {
    for (const tab of ['txt2img', 'img2img']) {
        const show = () => setTimeout(() => gradioApp().querySelector(`#${tab}_generation_info_button`)?.click(), 50);
        const gallery = gradioApp().querySelector(`#${tab}_gallery`);
        gallery?.addEventListener('click', show);
        gallery?.addEventListener('keydown', (e) => { if (e.key.startsWith('Arrow')) show(); });
    }
});

// ---- tabs

function switch_to_tab(number, args) {
    gradioApp().querySelectorAll('#tabs > .tab-nav > button')[number].click();
    return Array.from(args);
}
function switch_to_txt2img() { return switch_to_tab(0, arguments); }
function switch_to_img2img() { return switch_to_tab(1, arguments); }
function switch_to_extras() { return switch_to_tab(2, arguments); }

// ---- generating

// A bar above `container` and previews over `gallery` until the task is over; then both go and `atEnd` is called.
function showProgress(id, container, gallery, atEnd) {
    const started = Date.now();
    const outer = document.createElement('div');
    const bar = document.createElement('div');
    outer.className = 'progressDiv';
    bar.className = 'progress';
    outer.appendChild(bar);
    container.parentNode.insertBefore(outer, container);
    let preview = null, previewId = -1, wasActive = false;

    function end() {
        outer.remove();
        preview?.remove();
        atEnd();
    }

    function show(answer) {
        const late = Date.now() - started > 40000;
        if (answer.completed || (!answer.active && (wasActive || (late && !answer.queued)))) return end();
        wasActive = wasActive || answer.active;
        const percent = Math.round((answer.progress || 0) * 100);
        bar.style.width = `${percent}%`;
        bar.textContent = percent ? `${percent}%` : (answer.textinfo || '');
        if (answer.live_preview) {
            preview = preview || gallery.insertBefore(document.createElement('div'), gallery.firstElementChild);
            preview.className = 'livePreview';
            const image = new Image();
            image.src = answer.live_preview;
            preview.replaceChildren(image);
            previewId = answer.id_live_preview;
        }
        setTimeout(ask, opts.live_preview_refresh_period || 500);
    }

    function ask() {
        const body = JSON.stringify({id_task: id, id_live_preview: previewId});
        fetch('./internal/progress', {method: 'POST', headers: {'Content-Type': 'application/json'}, body})
            .then((response) => response.ok ? response.json() : Promise.reject(response.status))
            .then(show).catch(end);
    }
    ask();
}

function startTask(tab, args) {
    const find = (name) => gradioApp().querySelector(`#${tab}_${name}`);
    const show = (name, wanted) => { if (find(name)) find(name).style.display = wanted ? 'block' : 'none'; };
    const running = (wanted) => { show('interrupt', wanted); show('skip', wanted); };
    const id = `task(${crypto.getRandomValues(new Uint32Array(3)).join('')})`;
    running(true);
    showProgress(id, find('gallery_container'), find('gallery'), () => running(false));
    return [id, ...Array.from(args).slice(1)];
}

function submit_txt2img() { return startTask('txt2img', arguments); }
function submit_img2img() { return startTask('img2img', arguments); }
function submit_extras() { return startTask('extras', arguments); }
function submit_txt2img_upscale() {
    const index = selected_gallery_index();
    const values = startTask('txt2img', arguments);
    values[2] = index;
    return values;
}

// ---- Reload UI

function restart_reload() {
    document.body.innerHTML = '<h1 style="text-align:center;margin-top:20%">Reloading...</h1>';
    const again = () => fetch('./internal/ping').then((r) => r.ok ? location.reload() : setTimeout(again, 500))
        .catch(() => setTimeout(again, 500));
    setTimeout(again, 2000);
    return [];
}
