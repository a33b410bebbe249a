from PIL import Image

from imagereward_ext.evaluation.contact_sheet import Cell, Row, contact_sheet


def test_pictures_of_any_size_fill_their_cells():
    small, large = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (600, 300), "blue")
    sheet = contact_sheet([Row("", [Cell(small), Cell(large)])], side=192)
    colours = {colour: count for count, colour in sheet.getcolors(sheet.width * sheet.height)}
    assert colours[255, 0, 0] == 192 * 192
    assert colours[0, 0, 255] == 192 * 96
