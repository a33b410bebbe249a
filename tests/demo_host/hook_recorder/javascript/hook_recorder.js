// What an extension's script expects of the page: each of these sets a mark that a test reads.
(function() {
    const marks = window.hookRecorder = {loaded: 0, updates: 0, afterUpdates: 0, tabs: [], option: null};
    onUiLoaded(() => {
        marks.loaded += 1;
        marks.gallery = !!gradioApp().querySelector('#txt2img_gallery');
        marks.byId = !!gradioApp().getElementById('txt2img_prompt');
    });
    onUiUpdate(() => { marks.updates += 1; });
    onAfterUiUpdate(() => { marks.afterUpdates += 1; });
    onUiTabChange(() => { marks.tabs.push(get_uiCurrentTab().innerText.trim()); });
    onOptionsAvailable(() => { marks.option = opts.hook_recorder_option; });
})();
