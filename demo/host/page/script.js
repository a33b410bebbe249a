// What a WebUI's page offers to the scripts of extensions. The names are the contract; everything else is the demo's.

var opts = {};
var uiUpdateCallbacks = [];
var uiAfterUpdateCallbacks = [];
var uiLoadedCallbacks = [];
var uiTabChangeCallbacks = [];
var optionsChangedCallbacks = [];
var optionsAvailableCallbacks = [];

function gradioApp() {
    const app = document.querySelector('gradio-app');
    if (!app) return document;
    app.getElementById = (id) => document.getElementById(id);
    return app.shadowRoot || app;
}

function get_uiCurrentTab() {
    return gradioApp().querySelector('#tabs > .tab-nav > button.selected');
}

function get_uiCurrentTabContent() {
    return gradioApp().querySelector('#tabs > .tabitem[id^=tab_]:not([style*="display: none"])');
}

function onUiUpdate(callback) { uiUpdateCallbacks.push(callback); }
function onAfterUiUpdate(callback) { uiAfterUpdateCallbacks.push(callback); }
function onUiLoaded(callback) { uiLoadedCallbacks.push(callback); }
function onUiTabChange(callback) { uiTabChangeCallbacks.push(callback); }
function onOptionsChanged(callback) { optionsChangedCallbacks.push(callback); }
function onOptionsAvailable(callback) {
    if (Object.keys(opts).length) callback();
    else optionsAvailableCallbacks.push(callback);
}

function executeCallbacks(queue, arg) {
    for (const callback of queue) {
        try {
            callback(arg);
        } catch (e) {
            console.error('error running callback', callback, e);
        }
    }
}

// ---- noticing what the page does

let loaded = false;
let currentTab = null;
let afterUpdate = null;
let optionsText = null;

function readOptions() {
    const text = gradioApp().querySelector('#settings_json textarea')?.value;
    if (!text || text === optionsText) return;
    optionsText = text;
    Object.assign(opts, JSON.parse(text));
    executeCallbacks(optionsAvailableCallbacks.splice(0));
    executeCallbacks(optionsChangedCallbacks);
}

function pageChanged(records) {
    if (!loaded && gradioApp().querySelector('#txt2img_prompt')) {
        loaded = true;
        executeCallbacks(uiLoadedCallbacks);
    }
    executeCallbacks(uiUpdateCallbacks, records);
    clearTimeout(afterUpdate);
    afterUpdate = setTimeout(() => executeCallbacks(uiAfterUpdateCallbacks), 200);
    const tab = get_uiCurrentTab();
    if (tab && tab !== currentTab) {
        currentTab = tab;
        executeCallbacks(uiTabChangeCallbacks);
    }
}

document.addEventListener('DOMContentLoaded', () => {
    new MutationObserver(pageChanged).observe(gradioApp(), {childList: true, subtree: true});
    setInterval(readOptions, 250);  // a textarea's value changes without a mutation
});

// ---- galleries

function all_gallery_buttons() {
    const all = gradioApp().querySelectorAll('div[id$=_gallery] .thumbnails > .thumbnail-item.thumbnail-small');
    return Array.from(all).filter((button) => button.offsetParent);
}

function selected_gallery_button() {
    return all_gallery_buttons().find((button) => button.classList.contains('selected')) ?? null;
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

function randomId() {
    return `task(${crypto.getRandomValues(new Uint32Array(3)).join('')})`;
}

function request(url, data, handler, errorHandler) {
    fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(data)})
        .then((response) => response.ok ? response.json() : Promise.reject(response.status))
        .then(handler).catch(errorHandler);
}

// A bar above `container` and previews over `gallery` until the task is over; then both go and `atEnd` is called.
function requestProgress(id_task, container, gallery, atEnd, onProgress, inactivityTimeout = 40) {
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
        const idle = (Date.now() - started) / 1000 > inactivityTimeout;
        if (answer.completed || (!answer.active && (wasActive || (idle && !answer.queued)))) return end();
        wasActive = wasActive || answer.active;
        const percent = Math.round((answer.progress || 0) * 100);
        bar.style.width = `${percent}%`;
        bar.textContent = percent ? `${percent}%` : (answer.textinfo || '');
        if (answer.live_preview && gallery) {
            preview = preview || gallery.insertBefore(document.createElement('div'), gallery.firstElementChild);
            preview.className = 'livePreview';
            const image = new Image();
            image.src = answer.live_preview;
            preview.replaceChildren(image);
            previewId = answer.id_live_preview;
        }
        if (onProgress) onProgress(answer);
        setTimeout(ask, opts.live_preview_refresh_period || 500);
    }

    function ask() {
        request('./internal/progress', {id_task: id_task, id_live_preview: previewId}, show, end);
    }
    ask();
}

function showSubmitButtons(tab, show) {
    for (const name of ['interrupt', 'skip']) {
        const button = gradioApp().querySelector(`#${tab}_${name}`);
        if (button) button.style.display = show ? 'none' : 'block';
    }
}

function startTask(tab, args) {
    showSubmitButtons(tab, false);
    const id = randomId();
    const find = (name) => gradioApp().querySelector(`#${tab}_${name}`);
    requestProgress(id, find('gallery_container'), find('gallery'), () => showSubmitButtons(tab, true));
    const values = Array.from(args);
    values[0] = id;
    return values;
}

function submit() { return startTask('txt2img', arguments); }
function submit_txt2img() { return startTask('txt2img', arguments); }
function submit_img2img() { return startTask('img2img', arguments); }
function submit_extras() { return startTask('extras', arguments); }
function submit_txt2img_upscale() {
    const index = selected_gallery_index();
    const values = startTask('txt2img', arguments);
    values[2] = index;
    return values;
}

document.addEventListener('keydown', (e) => {
    if (e.key !== 'Enter' || !(e.ctrlKey || e.metaKey)) return;
    get_uiCurrentTabContent()?.querySelector('button[id$=_generate]')?.click();
    e.preventDefault();
});

// ---- Reload UI

function restart_reload() {
    document.body.innerHTML = '<h1 style="text-align:center;margin-top:20%">Reloading...</h1>';
    const again = () => fetch('./internal/ping').then((r) => r.ok ? location.reload() : setTimeout(again, 500))
        .catch(() => setTimeout(again, 500));
    setTimeout(again, 2000);
    return [];
}
