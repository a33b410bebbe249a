// What an extension's script expects of the page: each of these sets a mark that a test reads.
(function() {
    const marks = window.hookRecorder = {loaded: 0};
    onUiLoaded(() => {
        marks.loaded += 1;
        marks.gallery = !!gradioApp().querySelector('#txt2img_gallery');
        marks.byId = !!gradioApp().getElementById('txt2img_prompt');
    });
})();
