using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http.Native;

/// <summary>One side of a turn that a client appends: a text, or items.</summary>
internal static class AppendedItems
{
    /// <summary>Reads it.</summary>
    /// <exception cref="DomainException">It is not allowed.</exception>
    /// <exception cref="OpenAiException">An item is not.</exception>
    public static Items Read(string textField, Utf8Text? text, string itemsField, JsonElement? items, LimitSettings limits)
    {
        if (text is not null && items is not null)
        {
            throw new DomainException(
                Error.InvalidField(itemsField, $"must not be given together with {textField}: a side is a text or items"));
        }

        if (text is { } given)
        {
            // What an agent says may be longer than what is asked.
            return given.Length <= limits.ResponseBytes ? Items.OfText(given)
                : throw new DomainException(Error.LimitExceeded(
                    textField, $"must be at most {limits.ResponseBytes} bytes of UTF-8", "limits.response_bytes"));
        }

        if (items is not { } array)
        {
            return Items.None;
        }

        if (array.ValueKind != JsonValueKind.Array)
        {
            throw new DomainException(Error.InvalidField(itemsField, "must be a list of items"));
        }

        var read = InputItems.Read(array, itemsField);
        var reference = read.FindIndex(item => item.Type == InputItem.Reference);
        return reference >= 0
            ? throw new DomainException(Error.InvalidField($"{itemsField}[{reference}]", "must be an item itself, not a reference"))
            : read.Count == 0 ? Items.None
            : Items.OfJson(ItemJson.Join([.. read.Select(item => item.Raw)]));
    }
}
