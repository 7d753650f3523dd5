"""The words of the frame, in English and in Korean. What a model says of itself stays in its author's language."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES: Mapping[str, str] = {"en": "English", "ko": "한국어"}

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "run": "Try it",
        "more": "More settings",
        "again": "Start over",
        "full": "Full screen",
        "story": "Its story",
        "tell": "Tell the story",
        "told": "One request, asked of every version that was ever registered, the oldest first.",
        "no story": "No version of this model is registered yet.",
        "page": "In the browser",
        "paged": "The model runs in this page itself, without a server and without a network.",
        "take": "Take it home: one file that a browser opens",
        "answered": "answered",
        "failed": "This version failed",
        "feedback": "Was this good?",
        "up": "👍 yes",
        "down": "👎 no",
        "note": "A note",
        "corrected": "What should have come out (words)",
        "file": "What should have come out (a file)",
        "consent": "I agree that what I entered, this answer and my feedback are kept for {days} days, "
        "and that the model may be trained with them.",
        "send": "Give it back",
        "thanks": "Thank you. It is kept until {date}.",
        "no consent": "Nothing was kept: please agree first.",
        "first": "Try something first.",
        "busy": "working …",
        "touch": "Touch the screen to try",
        "failed inside": "That failed inside the model. Please try something else.",
    },
    "ko": {
        "run": "해 보기",
        "more": "더 많은 설정",
        "again": "처음부터",
        "full": "전체 화면",
        "story": "모델의 이야기",
        "tell": "이야기 듣기",
        "told": "등록된 모든 버전에 같은 요청을 하나씩, 오래된 것부터 물어봅니다.",
        "no story": "아직 등록된 버전이 없습니다.",
        "page": "브라우저에서",
        "paged": "이 페이지 안에서 모델이 직접 실행됩니다. 서버도 네트워크도 필요 없습니다.",
        "take": "가져가기: 브라우저로 여는 파일 하나",
        "answered": "답한 버전",
        "failed": "이 버전은 실패했습니다",
        "feedback": "결과가 마음에 드시나요?",
        "up": "👍 좋아요",
        "down": "👎 아니요",
        "note": "남기실 말씀",
        "corrected": "나왔어야 할 결과 (글)",
        "file": "나왔어야 할 결과 (파일)",
        "consent": "제가 입력한 것과 이 결과, 그리고 의견을 {days}일 동안 보관하고 모델 학습에 사용하는 데 동의합니다.",
        "send": "의견 보내기",
        "thanks": "감사합니다. {date}까지 보관합니다.",
        "no consent": "보관하지 않았습니다. 먼저 동의해 주세요.",
        "first": "먼저 한번 해 보세요.",
        "busy": "작업 중 …",
        "touch": "화면을 눌러 시작하세요",
        "failed inside": "모델 안에서 문제가 생겼습니다. 다르게 해 보세요.",
    },
}


def word(language: str, key: str, **values: object) -> str:
    """A word of the frame. An unknown language is English."""
    return WORDS.get(language, WORDS["en"])[key].format(**values)
