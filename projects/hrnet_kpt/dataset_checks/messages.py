"""The message of each finding about a data set, by the finding's name, errors and warnings apart.

Placeholders are filled where the finding is made. `{count}` is the number of annotations or images.
"""

FIX = "hrnet-kpt check-data --fix OUT.json"

ERRORS = {
    "image-incomplete": "{count} without an `id` or a `file_name`: add it",
    "image-id-repeated": "{count} with an `id` that another image has too: each would get the annotations of both; "
    "give every image its own id",
    "image-size-not-positive": "{count} whose `width` and `height` are not positive numbers: correct or remove them",
    "image-missing": "{count}{all} whose file does not exist, the first one at {first}{searched}{several}: {remedy}",
    "image-unreadable": "{count} that cannot be read, the first one {first}: repair the files, remove them from the "
    "json, or set data.on_bad_image=skip",
    "image-alpha-only": "{count} whose content is only in the alpha channel, the first one {first}: repair the files, "
    "remove them from the json, or set data.on_bad_image=skip",
    "image-size-wrong": "{count} of another size than the json declares, the first one {first}: {actual} pixels, "
    "annotated for {annotated}; find the files that were annotated, or set data.on_bad_image=skip",
    "no-keypoints": "no category has a list of `keypoints`: add the names of the keypoints to one{drawn_as_points}",
    "names-missing": "{category} names no keypoints, but {annotations} have {number}: list their names in `keypoints` "
    "of the category, or set data.keypoints",
    "names-count": "{category} names {named}, but all of its {annotations} have {number} ({values} numbers): correct "
    "the names or the annotations",
    "annotation-without-image-id": "{count} without `image_id`, the first one at index {first} of `annotations`: add "
    "it, or remove them",
    "annotation-without-category-id": "{count} without `category_id`, the first one at index {first} of "
    "`annotations`: add it, or remove them",
    "category-unknown": "{count} of a category that the json does not list: add the category, or remove them",
    "box-missing": "{count} without a `bbox`: add x, y, width and height of the box, or remove them",
    "box-not-numbers": "{count} with a `bbox` that is not four finite numbers: correct or remove them",
    "box-in-shares": "{count} with boxes that are all at most 1 wide and high: they must be x, y, width, height in "
    "pixels, not fractions of the image",
    "box-convention": "{count} with a `bbox` that is {actual}, not {coco} in pixels: {evidence}; convert them with "
    f"{FIX}",
    "box-convention-unclear": "{count} with a `bbox`, and {misfits} of a sample of {total} do not fit: read as {coco} "
    "in pixels, they are outside their images or do not contain their keypoints{alternatives}; correct boxes, "
    "keypoints or sizes",
    "keypoint-convention": "{count} with keypoints that are {unit} of the image, not pixels: {evidence}; convert them "
    f"with {FIX}",
    "no-usable-box": "{count}, all of {category}, without a box of positive width and height: training would learn "
    f"nothing from them; draw boxes, or make them from the keypoints with {FIX} --grow-boxes 40px",
    "area-not-positive": "{count} with an `area` that is not a positive number: OKS cannot be computed; correct or "
    "remove it",
    "iscrowd-not-0-or-1": "{count} with an `iscrowd` that is neither 0 nor 1: correct it",
    "iscrowd-everywhere": "{count}, all with labelled keypoints, have `iscrowd` 1: neither training nor evaluation "
    "uses them; set it to 0",
    "keypoints-length": "{count} whose `keypoints` are not one list of three numbers (x, y, v) for each keypoint of "
    "the category: correct or remove them",
    "keypoints-not-numbers": "{count} with `keypoints` that are not all finite numbers: correct or remove them",
    "nothing-to-learn": "no annotation of a listed image has a labelled keypoint (v > 0): there is nothing to learn",
}

WARNINGS = {
    "image-size-missing": "{count} without `width` or `height`: read from the files; boxes and keypoints are not "
    "compared with the borders of these images",
    "file-name-respelled": "{count} whose `file_name` differs in spelling from the only file that matches "
    "({differences}): that file is read",
    "file-listed-again": "{count} of a file that an earlier image has too: it counts several times",
    "test-image-in-train": "{count} with the same bytes as an image of {train}, which training sees too: AP will be "
    "too high; the first one {first} is {other}",
    "test-picture-in-train": "{count} with the same content as an image of {train}, which training sees too: AP will "
    "be too high; the first one {first} is {other}",
    "image-copied": "{count} with the same bytes as an earlier one, the first one {first} is {other}: it counts "
    "several times",
    "picture-repeated": "{count} with the same content as an earlier one, the first one {first} is {other}: it counts "
    "several times",
    "image-depths-mixed": "{count} of more than 8 bits, the first one {first}, among {total}: data.image_range scales "
    "these and leaves 8-bit images as they are; check that they look alike",
    "images-nearly-constant": "{count} of {total} that are nearly constant, the first one {first}: on a scale of 0 to "
    "255, the darkest and the brightest pixel differ by less than {contrast}; for images of more than 8 bits set "
    "data.image_range=[low,high], else convert them",
    "exif-upright": "{count} that EXIF data rotate or mirror, the first one {first}: read upright, which has the size "
    "in the json",
    "exif-as-stored": "{count} that EXIF data rotate or mirror, the first one {first}: read as stored, which has the "
    "size in the json",
    "exif-unclear": "{count} that EXIF data rotate or mirror, the first one {first}: read upright, but the sizes in "
    "the json do not tell whether they were annotated so; look at drawings of them",
    "root-category": "category {root!r} only groups the others (it is their `supercategory`) and has no annotations: "
    "it is not used as a class",
    "category-unused": "{unused} of {total} categories without annotations: {names}; nothing can be learned or "
    "measured of them here: check `category_id`, or remove them",
    "skeleton-from-zero": "{category} has a `skeleton` that counts the keypoints from 0, COCO counts from 1: drawings "
    "show wrong bones",
    "skeleton-joint-unknown": "{category} has {bones} in its `skeleton`, like {first}, of keypoints that do not "
    "exist: it has {number}, counted from 1; not drawn, and the other bones may be wrong too",
    "sigmas-large": "{category} has a sigma of {sigma:g}: above {limit:g}, almost any point counts as correct, and AP "
    "means little; sigmas are fractions of the object's size, in COCO 0.025 to 0.107",
    "image-id-of-another-type": "{count} whose `image_id` is a string where the id is a number, or the reverse: "
    "matched by value",
    "category-id-of-another-type": "{count} whose `category_id` is a string where the id is a number, or the reverse: "
    "matched by value",
    "annotation-without-id": "{count} without `id`, the first one at index {first} of `annotations`: pycocotools and "
    "other tools need it",
    "annotation-id-repeated": "{count} with an `id` that another annotation has too: pycocotools would confuse them; "
    "evaluation renumbers them; were files merged?",
    "annotation-id-no-number": "{count} with an `id` that is not an integer, as pycocotools needs it: evaluation "
    "renumbers them",
    "annotation-id-zero": "{count} with the `id` 0, which pycocotools takes for no match and counts as missed: "
    "evaluation renumbers them",
    "image-unknown": "{count} of an image that the json does not list: not used",
    "annotation-doubled": "{count} with the box and the keypoints of an earlier one of the same image and category: "
    f"the object counts twice, and of two equal detections one is wrong; remove them with {FIX}",
    "object-in-two-annotations": "{count} with keypoints whose box is that of another annotation, which has no "
    f"keypoints: such keypoints are not learned; merge them with {FIX}",
    "box-negative": "{count} with a box of negative width or height: not used in training, and no detection can match "
    "them; `bbox` is x, y, width, height",
    "box-empty": "{count} with a box of width or height 0: not used in training, and no detection can match them",
    "box-outside": "{count} with a box that is completely outside the image: not used in training",
    "box-over-border": "{count} with a box that crosses the border of the image: clipped for training; `bbox` is x, "
    "y, width, height in pixels",
    "box-from-keypoints": "{count} of {category} with a box that is only the extent of the keypoints, {fraction:.0%} "
    "of those that can be compared: a box should contain the whole object, and what is outside of it is neither seen "
    f"nor learned well; draw boxes, or grow these with {FIX} --grow-boxes 0.2",
    "area-missing": "{count} without `area`, or with 0: evaluation uses {fraction:g} of the box",
    "area-larger-than-box": "{count} with an `area` larger than the box, {factor} times the object's in the median: "
    "OKS treats errors as {errors:.3g} times smaller than they are, and keypoint AP will be far too high; write "
    f"plausible ones with {FIX}",
    "area-tiny": "{count} with an `area` below {limit:.0%} of the box, {factor:.2g} times the object's in the median: "
    "OKS treats errors as {errors:.3g} times larger than they are, and keypoint AP will be far too low; write "
    f"plausible ones with {FIX}",
    "iscrowd-missing": "{count} without `iscrowd`: taken as 0",
    "visibility-not-0-1-2": "{count} with a visibility v other than 0, 1 and 2: labelled if it is above 0",
    "unlabelled-with-place": "{count} with coordinates of keypoints that are not labelled (v = 0): taken as 0, 0",
    "keypoints-outside-image": "{count} with labelled keypoints outside the image: they are not learned, but "
    "evaluation counts them",
    "keypoints-at-corner": "{count} with labelled keypoints exactly at a corner of the image, {corners} in all, away "
    f"from the object: they are defaults, not labels, yet are learned and evaluated; {FIX} makes them 0, 0, 0",
    "keypoints-in-one-place": "{count} with all labelled keypoints, three or more, at the same position: the "
    "positions were lost; label them again, or remove them",
    "keypoints-outside-box": "{count} with labelled keypoints far outside the box, {fraction:.0%} of all keypoints of "
    "{category}: not learned; are both in pixels, and `bbox` x, y, width, height?",
    "visibility-all-1": "{count}, all with labelled keypoints, where v is never 2: all keypoints are hidden by that, "
    "but annotation tools with two states mean labelled; training and AP count 1 as 2",
    "num-keypoints-missing": "{count} without `num_keypoints`: evaluation counts them",
    "num-keypoints-wrong": "{count} with a `num_keypoints` that is not the number of keypoints with v > 0: evaluation "
    "counts them",
    "many-unlabelled": "{count}, {fraction:.0%} of {category}, without a labelled keypoint (v > 0): only their boxes "
    "are learned",
    "limits-exceeded": "{count} with more objects, up to {largest}, than the {reported} that the model reports per "
    "image: set model.roi_heads.box_predictor.test_topk_per_image={largest}",
    "sides-exchanged": "{count} of {category} in which {left} and {right} seem exchanged: compared with the rest of "
    "the body, each is where the other should be; look at them",
    "instance-mirrored": "{count} of {category} in which all of left and right seem exchanged: nearly all others face "
    "the other way; look at them",
    "flip-pairs-unknown": "keypoints of {category} look like left and right counterparts, but their names do not say "
    "so: {pairs} are swapped when the average pose of {instances} is mirrored. Mirrored images would train them the "
    "wrong way round: set {override}, or remove RandomFlip",
}
