using System.Buffers;
using System.IO.Pipelines;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http.Metadata;

namespace Sessions.Api;

/// <summary>
/// A JSON request body. The framework's own binding would answer a mistake with a bare 400; this one says which field breaks which
/// rule. An absent body, or null, is an empty object: what is required is checked where it is used.
/// </summary>
/// <param name="Value">What the body says.</param>
internal sealed record Body<T>(T Value) : IBindableFromHttpContext<Body<T>>, IEndpointParameterMetadataProvider where T : class, new()
{
    public static async ValueTask<Body<T>?> BindAsync(HttpContext context, ParameterInfo parameter)
    {
        var request = context.Request;
        var limits = context.RequestServices.GetRequiredService<LimitSettings>();
        var reader = request.BodyReader;
        ITimer? patience = null;
        try
        {
            while (true)
            {
                ReadResult read;
                try
                {
                    read = await reader.ReadAsync(context.RequestAborted);
                }
                catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
                {
                    throw TooLarge(limits.RequestBodyBytes);
                }
                catch (IOException e) when (e is not BadHttpRequestException)
                {
                    // A chunk whose length is no number that fits, which the framework throws without a status; or the client has gone.
                    throw new ProblemException(Problem.FromStatus(StatusCodes.Status400BadRequest));
                }

                if (read.Buffer.Length > limits.RequestBodyBytes)
                {
                    reader.AdvanceTo(read.Buffer.End);
                    throw TooLarge(limits.RequestBodyBytes);
                }

                if (read.IsCompleted)
                {
                    try
                    {
                        return new(Parse(request, read.Buffer));
                    }
                    finally
                    {
                        reader.AdvanceTo(read.Buffer.End);
                    }
                }

                if (read.IsCanceled)
                {
                    reader.AdvanceTo(read.Buffer.End);
                    throw new ProblemException(Problem.FromStatus(StatusCodes.Status408RequestTimeout));
                }

                reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);

                // Most bodies are there at once. One that is not has so much time: Kestrel alone would be content with a few bytes a second.
                patience ??= context.RequestServices.GetRequiredService<TimeProvider>().CreateTimer(
                    late => ((PipeReader)late!).CancelPendingRead(), reader, TimeSpan.FromSeconds(limits.ReceiveSeconds), Timeout.InfiniteTimeSpan);
            }
        }
        finally
        {
            patience?.Dispose();
        }
    }

    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder) =>
        builder.Metadata.Add(new AcceptsMetadata(["application/json"], typeof(T), isOptional: true));

    private static T Parse(HttpRequest request, in ReadOnlySequence<byte> body)
    {
        if (body.IsEmpty)
        {
            return new T();
        }

        if (!request.HasJsonContentType())
        {
            throw new ProblemException(Problem.FromStatus(StatusCodes.Status415UnsupportedMediaType));
        }

        var type = (JsonTypeInfo<T>)ApiJson.Wire.GetTypeInfo(typeof(T))!;
        try
        {
            var reader = new Utf8JsonReader(body, new JsonReaderOptions { MaxDepth = ApiJson.MaxRequestDepth });
            var value = JsonSerializer.Deserialize(ref reader, type);
            while (reader.Read())
            {
                // Only white space may follow; the reader throws at anything else.
            }

            return value ?? new T();
        }
        catch (JsonException e)
        {
            throw new ProblemException(Describe(e, type));
        }
    }

    private static Problem Describe(JsonException e, JsonTypeInfo type)
    {
        // A fault of the JSON itself has the reader's exception within; otherwise the field is of the wrong type, or there twice.
        var field = e.Path is ['$', '.', .. var path] ? path.Split('.', '[')[0] : null;
        if (e.InnerException is not JsonException && type.Properties.FirstOrDefault(property => property.Name == field) is { } known)
        {
            return Problem.InvalidField(known.Name, $"must be {Kind(known.PropertyType)}, given once");
        }

        if (e.Path == "$" && e.InnerException is not JsonException)
        {
            return Problem.InvalidField("body", "must be a JSON object");
        }

        return new Problem(StatusCodes.Status400BadRequest, "invalid_json",
            $"The body is not valid JSON, or nests more than {ApiJson.MaxRequestDepth} levels deep, at line {e.LineNumber + 1}, byte {e.BytePositionInLine + 1}.");
    }

    private static string Kind(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(string) || type == typeof(Utf8Text) ? "a text (valid Unicode)"
            : type == typeof(int) || type == typeof(long) ? "a whole number"
            : type == typeof(bool) ? "true or false"
            : "a JSON object";
    }

    private static ProblemException TooLarge(long limit) =>
        new(Problem.LimitExceeded("body", $"must be at most {limit} bytes", "limits.request_body_bytes", StatusCodes.Status413PayloadTooLarge));
}
